"""A plan for so many conversations lets so many hold memory, and nobody waits for ever."""

from __future__ import annotations

import gc
import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.cache import KVCache
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.turns import Turns

from llama4sdk.errors import DeviceMemoryError, StreamClosedError
from llama4sdk.events import Event
from llama4sdk.requests import EmbedRequest, Request, SamplingParams, ScoreRequest
from llama4sdk.results import Completion, fold

from .reference import MAVERICK_LIKE, characters_tokenizer
from .test_backend import plan
from .test_engine import whole

SOON = 30.0
"""Seconds that nothing here takes, unless it hangs."""


def request(seed: int = 0) -> Request:
    return Request(prompt=f"p{seed}", sampling=SamplingParams(seed=seed, max_tokens=20))


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], tuple[int, int]]]:
    """How many caches there are now, and were at most."""
    counts = {"now": 0, "most": 0}
    lock = threading.Lock()
    make = TextModel.new_cache

    class Counted(KVCache):
        def __del__(self) -> None:
            with lock:
                counts["now"] -= 1

    def counted(self: TextModel, *args: int, **more: int) -> KVCache:
        cache = make(self, *args, **more)
        cache.__class__ = Counted
        with lock:
            counts["now"] += 1
            counts["most"] = max(counts["most"], counts["now"])
        return cache

    monkeypatch.setattr(TextModel, "new_cache", counted)
    yield lambda: (counts["now"], counts["most"])
    gc.collect()


@pytest.fixture
def engine(tiny_engine: TorchEngine) -> TorchEngine:
    """With room for two."""
    tiny_engine._turns = Turns(2, patience=SOON)
    return tiny_engine


def test_no_more_hold_a_cache_than_were_planned_for(engine: TorchEngine, held: Callable[[], tuple[int, int]]) -> None:
    """Eight threads that generate, embed and score at once hold two caches, and each gets what it gets alone."""
    alone = [whole(engine, request(n)) for n in range(4)]
    works: list[Callable[[], object]] = [lambda n=n: whole(engine, request(n)) for n in range(4)]  # type: ignore[misc]
    works += [lambda: engine.embed(EmbedRequest(inputs=("a", "bc")))] * 2
    works += [lambda: engine.score(ScoreRequest(prompt="abcdefgh"))] * 2
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda work: work(), works, timeout=SOON))
    assert found[:4] == alone
    gc.collect()
    assert held() == (0, 2)


@pytest.mark.parametrize("leave", ["close", "abandon", "fail"])
def test_a_stream_that_is_left_gives_its_turn_back(
    engine: TorchEngine, held: Callable[[], tuple[int, int]], leave: str
) -> None:
    """Closed early, forgotten without a word, or ended by an error: who waits goes on."""
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
    assert held()[1] == 2


def test_closing_the_engine_ends_the_waiting(engine: TorchEngine) -> None:
    """With the error that its open streams end with, too."""
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


def test_streams_may_be_read_in_turns_by_one_thread(
    tiny_engine: TorchEngine, held: Callable[[], tuple[int, int]], caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is memory for it beyond the plan, which is said once; both answers are what they are alone."""
    alone = [whole(tiny_engine, request(n)) for n in range(3)]
    tiny_engine._turns = Turns(1, patience=0.05)
    streams = [tiny_engine.stream(request(n)) for n in range(3)]
    events: list[list[Event]] = [[], [], []]
    for row in itertools.zip_longest(*streams):
        for place, event in enumerate(row):
            events[place] += [event] if event is not None else []
    assert [_folded(found) for found in events] == alone
    assert held()[1] == 3
    assert len([r for r in caplog.records if r.levelno == logging.WARNING and "larger batch" in r.message]) == 1


def test_without_memory_for_one_more_it_is_refused(tiny_engine: TorchEngine) -> None:
    """Rather than let the system end the process; what is open goes on."""
    tiny_engine._turns = Turns(1, patience=0.05)
    tiny_engine._request_bytes = 2**60
    first = tiny_engine.stream(request())
    next(first)
    with pytest.raises(DeviceMemoryError, match="nobody reads") as caught:
        next(tiny_engine.stream(request(1)))
    assert caught.value.need == 2**60 > (caught.value.have or 0) > 0
    assert caught.value.hint
    assert len(list(first)) > 1
    assert whole(tiny_engine, request(1)).usage.output_tokens == 20


def test_those_that_wait_come_in_their_order() -> None:
    """First come, first served, whoever is quicker to wake."""
    turns, order = Turns(1, patience=SOON), list[int]()
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


def test_a_plan_says_how_many(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]], caplog: pytest.LogCaptureFixture
) -> None:
    """Three streams of a plan for three are read in turns, and none waits or takes more than was planned."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    (folder / "tokenizer.json").write_text(characters_tokenizer(), encoding="utf-8")
    engine = TorchBackend().load(plan(folder, quantization="fp32", batch=3))
    for row in zip(*(engine.stream(request(n)) for n in range(3)), strict=False):
        assert len(row) == 3
    engine.close()
    assert not caplog.records


def _folded(events: list[Event]) -> Completion:
    return fold(events, model="tiny", backend="torch")
