"""A plan for so many conversations lets so many hold memory, and nobody waits for ever."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from llama4sdk.errors import DeviceMemoryError, StreamClosedError
from llama4sdk.events import Event
from llama4sdk.local.admission import Admission
from llama4sdk.requests import Request, SamplingParams
from llama4sdk.results import Completion, fold

from .bigrams import Bigrams, random_table

SOON = 30.0
"""Seconds that nothing here takes, unless it hangs."""


def request(seed: int = 0) -> Request:
    return Request(prompt=f"p{seed}", sampling=SamplingParams(max_tokens=20))


def whole(engine: Bigrams, request: Request) -> Completion:
    return _folded(list(engine.stream(request)))


def patient(most: int, *, patience: float = SOON) -> Bigrams:
    """An engine with room for so many."""
    engine = Bigrams(random_table(), batch=most)
    engine._turns = Admission(most, patience=patience)
    return engine


@pytest.mark.parametrize("leave", ["close", "abandon", "fail"])
def test_a_stream_that_is_left_gives_its_turn_back(leave: str) -> None:
    """Closed early, forgotten without a word, or ended by an error: who waits goes on."""
    engine = patient(2)
    streams = [engine.stream(request(n)) for n in range(2)]
    for stream in streams:
        next(stream)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(whole, engine, request(3))
        assert not waiting.done()
        if leave == "close":
            streams[0].close()  # type: ignore[attr-defined]
        elif leave == "abandon":
            del stream, streams[0]
            gc.collect()
        else:
            with pytest.raises(ZeroDivisionError):
                streams[0].throw(ZeroDivisionError())  # type: ignore[attr-defined]
        assert waiting.result(SOON).usage.output_tokens == 20
    assert engine.most == 2


def test_closing_the_engine_ends_the_waiting() -> None:
    """With the error that its open streams end with, too."""
    engine = patient(2)
    streams = [engine.stream(request(n)) for n in range(2)]
    for stream in streams:
        next(stream)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(whole, engine, request(3))
        while not engine._turns._line:
            pass
        engine.close()
        with pytest.raises(StreamClosedError):
            waiting.result(SOON)


def test_streams_may_be_read_in_turns_by_one_thread(caplog: pytest.LogCaptureFixture) -> None:
    """Where there is memory for it beyond the plan, which is said once; both answers are what they are alone."""
    engine = patient(1, patience=0.05)
    alone = [whole(engine, request(n)) for n in range(3)]
    streams = [engine.stream(request(n)) for n in range(3)]
    events: list[list[Event]] = [[], [], []]
    for row in itertools.zip_longest(*streams):
        for place, event in enumerate(row):
            events[place] += [event] if event is not None else []
    assert [_folded(found) for found in events] == alone
    assert engine.most == 3
    assert len([r for r in caplog.records if r.levelno == logging.WARNING and "larger batch" in r.message]) == 1


def test_without_memory_for_one_more_it_is_refused() -> None:
    """Rather than let the system end the process; what is open goes on."""
    engine = patient(1, patience=0.05)
    engine._request_bytes = 2**60
    first = engine.stream(request())
    next(first)
    with pytest.raises(DeviceMemoryError, match="nobody reads") as caught:
        next(engine.stream(request(1)))
    assert caught.value.need == 2**60 > (caught.value.have or 0) > 0
    assert caught.value.hint
    assert len(list(first)) > 1
    assert whole(engine, request(1)).usage.output_tokens == 20


def test_those_that_wait_come_in_their_order() -> None:
    """First come, first served, whoever is quicker to wake."""
    turns, order = Admission(1, patience=SOON), list[int]()
    go = threading.Event()

    def wait(n: int) -> None:
        with turns.turn(lambda: None, lambda: None):
            order.append(n)

    def hold() -> None:
        with turns.turn(lambda: None, lambda: None):
            go.wait(SOON)

    threads = [threading.Thread(target=hold)]
    threads[0].start()
    for n in range(8):
        while len(turns._line) < n or not turns._held:
            pass
        threads.append(threading.Thread(target=wait, args=(n,)))
        threads[-1].start()
    while len(turns._line) < 8:
        pass
    go.set()
    for thread in threads:
        thread.join(SOON)
    assert order == list(range(8))


def _folded(events: list[Event]) -> Completion:
    return fold(events, model="tiny", backend="bigrams")
