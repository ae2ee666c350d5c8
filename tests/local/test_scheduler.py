"""Steps of several threads as one run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from llama4sdk.errors import BackendError, StreamClosedError
from llama4sdk.local import scheduler
from llama4sdk.local.scheduler import Batcher, Step

WAIT = 10.0
"""Seconds after which a test gives up."""

Run = Callable[[list[Step[str, int, int]]], None]


def doubled(steps: list[Step[str, int, int]]) -> None:
    """What is run here."""
    for step in steps:
        step.result = 2 * step.given


class Gate:
    """A run that begins, and goes on when it is let."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.begun = threading.Event()
        self.open = threading.Event()

    def __call__(self, steps: list[Step[str, int, int]]) -> None:
        self.sizes.append(len(steps))
        self.begun.set()
        assert self.open.wait(WAIT)
        doubled(steps)


class Threads:
    """Calls in threads of their own, and what became of them."""

    def __init__(self) -> None:
        self.outcomes: dict[str, object] = {}
        self._threads: list[threading.Thread] = []

    def start(self, name: str, call: Callable[[], object]) -> None:
        """Begin one."""

        def work() -> None:
            try:
                self.outcomes[name] = call()
            except BaseException as error:  # noqa: BLE001  (also interrupts are outcomes)
                self.outcomes[name] = error

        self._threads.append(threading.Thread(target=work, name=name, daemon=True))
        self._threads[-1].start()

    def join(self) -> dict[str, object]:
        """Wait for all."""
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive(), f"{thread.name} hangs"
        return self.outcomes


def queued(batcher: Batcher[str, int, int], count: int) -> None:
    """Wait until so many places or steps stand in line."""
    deadline = time.monotonic() + WAIT
    while sum(max(len(place.steps), 1) for place in batcher._line) < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_step_alone_is_a_run_of_its_own() -> None:
    """Without others there is nobody to wait for."""
    batcher = Batcher[str, int, int](doubled)
    assert [batcher.step("a", n) for n in range(3)] == [0, 2, 4]


def test_steps_that_queue_during_a_run_go_together() -> None:
    """Whoever comes while the network is busy is in the next run, with all who came."""
    gate, threads = Gate(), Threads()
    batcher = Batcher[str, int, int](gate)
    threads.start("a", lambda: batcher.step("a", 1))
    assert gate.begun.wait(WAIT)
    for number, name in enumerate("bcd"):
        threads.start(name, lambda name=name, number=number: batcher.step(name, number))  # type: ignore[misc]
    queued(batcher, 3)
    gate.open.set()
    assert threads.join() == {"a": 2, "b": 0, "c": 2, "d": 4}
    assert gate.sizes == [1, 3]


def test_blocks_and_steps_take_turns() -> None:
    """A run of another kind waits for its turn, and steps that come after it wait for theirs."""
    gate, threads, order = Gate(), Threads(), []
    batcher = Batcher[str, int, int](lambda steps: (order.append("steps"), gate(steps))[1])  # type: ignore[func-returns-value]

    def block() -> None:
        with batcher.alone():
            order.append("block")

    threads.start("a", lambda: batcher.step("a", 1))
    assert gate.begun.wait(WAIT)
    threads.start("one", block)
    queued(batcher, 1)
    threads.start("b", lambda: batcher.step("b", 1))
    queued(batcher, 2)
    threads.start("two", block)
    queued(batcher, 3)
    gate.open.set()
    threads.join()
    assert order == ["steps", "block", "steps", "block"]


def test_partners_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who took part in the last run is in the next if it comes in time, though another could begin at once."""
    monkeypatch.setattr(scheduler, "PATIENCE", 1e4)
    sizes: list[int] = []
    start = threading.Barrier(2)

    def run(steps: list[Step[str, int, int]]) -> None:
        sizes.append(len(steps))
        time.sleep(0.002)
        doubled(steps)

    batcher, threads = Batcher[str, int, int](run), Threads()

    def work(name: str) -> None:
        start.wait(WAIT)
        for number in range(8):
            batcher.step(name, number)
        batcher.forget(name)

    for name in "ab":
        threads.start(name, lambda name=name: work(name))  # type: ignore[misc]
    assert set(threads.join().values()) == {None}
    assert sizes.count(2) >= 7  # only the first of each may have come alone


def test_one_threads_own_streams_do_not_wait_for_each_other() -> None:
    """What a thread would have to do itself cannot come while it waits, so it goes on at once."""
    batcher = Batcher[str, int, int](doubled)
    batcher._seconds = 1e6
    for number in range(3):
        assert batcher.step("a", number) == batcher.step("b", number)
        batcher._seconds = 1e6


def test_who_leaves_is_not_waited_for() -> None:
    """A stream that ends lets those go on that wait for it."""
    gate, threads = Gate(), Threads()
    batcher = Batcher[str, int, int](gate)
    gate.open.set()
    assert batcher.step("a", 1) == 2  # in this thread, which lives on: an ended one's number is given to the next
    batcher._seconds = 1e6
    threads.start("b", lambda: batcher.step("b", 1))
    time.sleep(0.05)
    assert not threads.outcomes
    batcher.forget("a")
    assert threads.join() == {"b": 2}


def test_a_failure_reaches_all_who_took_part() -> None:
    """Each thread raises an error of its own with the same words; the next run is as if nothing had been."""
    gate, threads = Gate(), Threads()
    error = BackendError("It broke.", hint="Mend it.")

    def run(steps: list[Step[str, int, int]]) -> None:
        gate(steps)
        if len(steps) == 2:
            for step in steps:
                step.result = None
            raise error

    batcher = Batcher[str, int, int](run)
    threads.start("a", lambda: batcher.step("a", 1))
    assert gate.begun.wait(WAIT)
    threads.start("b", lambda: batcher.step("b", 1))
    threads.start("c", lambda: batcher.step("c", 1))
    queued(batcher, 2)
    gate.open.set()
    outcomes = threads.join()
    assert outcomes["a"] == 2
    raised = [outcomes["b"], outcomes["c"]]
    assert [(type(one), str(one)) for one in raised] == [(BackendError, str(error))] * 2
    assert raised[0] is not raised[1]
    assert batcher.step("d", 4) == 8


def test_an_interrupt_in_the_leader_leaves_the_others_their_steps() -> None:
    """Ctrl-C ends one stream; steps that its thread was about to do are done by another."""
    gate, threads = Gate(), Threads()

    def run(steps: list[Step[str, int, int]]) -> None:
        first = len(gate.sizes) == 1
        gate(steps)
        if first:
            for step in steps:
                step.result = None
            raise KeyboardInterrupt

    batcher = Batcher[str, int, int](run)
    threads.start("a", lambda: batcher.step("a", 1))
    assert gate.begun.wait(WAIT)
    for name in "bcd":
        threads.start(name, lambda name=name: batcher.step(name, 5))  # type: ignore[misc]
    queued(batcher, 3)
    gate.open.set()
    outcomes = threads.join()
    interrupted = [name for name, outcome in outcomes.items() if isinstance(outcome, KeyboardInterrupt)]
    assert len(interrupted) == 1
    assert interrupted != ["a"]
    assert sorted(str(outcome) for name, outcome in outcomes.items() if name not in interrupted) == ["10", "10", "2"]


def test_who_waits_can_be_interrupted() -> None:
    """A step that nobody wants any more leaves the line, and those behind it go on."""
    gate, threads = Gate(), Threads()
    batcher = Batcher[str, int, int](gate)
    threads.start("a", lambda: batcher.step("a", 1))
    assert gate.begun.wait(WAIT)
    wait, waiting = batcher._changed.wait, threading.current_thread()

    def interrupted(timeout: float | None = None) -> bool:
        if threading.current_thread() is waiting:
            raise KeyboardInterrupt
        return wait(timeout)

    batcher._changed.wait = interrupted  # type: ignore[method-assign]  # a signal that comes in time
    with pytest.raises(KeyboardInterrupt):
        batcher.step("b", 1)
    with pytest.raises(KeyboardInterrupt), batcher.alone():
        pass
    threads.start("c", lambda: batcher.step("c", 3))
    queued(batcher, 1)
    gate.open.set()
    assert threads.join() == {"a": 2, "c": 6}
    assert gate.sizes == [1, 1]


def test_closing_ends_all_waiting() -> None:
    """Who runs comes to an end, who waits gets StreamClosedError, and so does who comes later."""
    gate, threads = Gate(), Threads()
    batcher = Batcher[str, int, int](gate)
    threads.start("a", lambda: batcher.step("a", 1))
    assert gate.begun.wait(WAIT)
    threads.start("b", lambda: batcher.step("b", 1))
    threads.start("block", lambda: batcher.alone().__enter__())
    queued(batcher, 2)
    threads.start("close", batcher.close)
    while not batcher._closed:
        time.sleep(0.001)
    gate.open.set()
    outcomes = threads.join()
    assert (outcomes["a"], outcomes["close"]) == (2, None)
    assert isinstance(outcomes["b"], StreamClosedError)
    assert isinstance(outcomes["block"], StreamClosedError)
    with pytest.raises(StreamClosedError):
        batcher.step("d", 1)
    with pytest.raises(StreamClosedError), batcher.alone():
        pass


@pytest.mark.parametrize("seed", range(3))
def test_many_threads_get_what_is_theirs(seed: int) -> None:
    """Whatever the timing, each step's result comes to who asked for it, once."""
    ran: list[tuple[str, int]] = []

    def run(steps: list[Step[str, int, int]]) -> None:
        assert len({step.member for step in steps}) == len(steps)
        ran.extend((step.member, step.given) for step in steps)
        time.sleep(0.0002 * (seed + len(ran)) % 0.001)
        doubled(steps)

    batcher, threads = Batcher[str, int, int](run), Threads()

    def work(name: str, count: int) -> bool:
        right = True
        for number in range(count):
            if number % 7 == ord(name) % 7:
                with batcher.alone():
                    time.sleep(0.0005)
            right = right and batcher.step(name, number) == 2 * number
        batcher.forget(name)
        return right

    for number, name in enumerate("abcdef"):
        threads.start(name, lambda name=name, number=number: work(name, 10 + 9 * number))  # type: ignore[misc]
    assert set(threads.join().values()) == {True}
    assert sorted(ran) == sorted((name, n) for number, name in enumerate("abcdef") for n in range(10 + 9 * number))
