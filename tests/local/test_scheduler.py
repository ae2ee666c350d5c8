"""Requests that share the steps and the memory of one network, whatever reads them."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Generator, Iterator
from collections.abc import Sequence as Many

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama4sdk.errors import BackendError, InvalidRequestError, StreamClosedError
from llama4sdk.local.scheduler import MAX_UNREAD_TOKENS, Scheduler
from llama4sdk.local.sequence import Reservation, Sequence, Token

#: After which a test gives up.
SECONDS = 30.0


class Drawn:
    """A token that is read later."""

    def __init__(self, token: int) -> None:
        self._token = token

    def token(self) -> Token:
        return Token(id=self._token)


class Echo:
    """The sampler of a network whose scores are the next token."""

    def __init__(self, *, ahead: bool = False) -> None:
        self._ahead = ahead

    def draw(self, logits: int) -> Drawn | Token:
        return Drawn(logits) if self._ahead else Token(id=logits)


Counting = Sequence[list[int], int]


class Counter:
    """A network that counts on from the last token. A cache holds the tokens that went in, at one byte each."""

    def __init__(self, *, ahead: bool = False, block: int = 4) -> None:
        self.ahead = ahead
        self.block = block
        self.caches: list[list[int]] = []
        self.peak = 0  # bytes of all caches, at most
        self.steps: list[str] = []
        self.fail: Callable[[Many[Counting]], None] = lambda sequences: None
        self._working = threading.Lock()

    def cache_bytes(self, reservations: Many[Reservation]) -> int:
        return sum(reservation.tokens for reservation in reservations)

    def prefill(self, sequence: Counting) -> int | None:
        assert self._working.acquire(blocking=False), "two threads at once"
        try:
            self.steps.append("block")
            self.fail([sequence])
            if sequence.cache is None:
                self.caches.append([])
                sequence.cache = self.caches[-1]
            sequence.cache += sequence.token_ids[sequence.num_cached :][: self.block]
            sequence.num_cached = len(sequence.cache)
            self._measure()
            return sequence.cache[-1] + 1 if len(sequence.cache) == len(sequence.token_ids) else None
        finally:
            self._working.release()

    def decode(self, sequences: Many[Counting]) -> list[int]:
        assert self._working.acquire(blocking=False), "two threads at once"
        try:
            self.steps.append(f"decode {len(sequences)}")
            self.fail(sequences)
            for sequence in sequences:
                assert sequence.cache is not None
                assert len(sequence.cache) == sequence.num_cached
                drawn = sequence.pending
                last = sequence.token_ids[-1] if drawn is None else drawn.token().id  # type: ignore[union-attr]
                assert last == sequence.cache[-1] + 1
                sequence.cache.append(last)
            self._measure()
            return [(sequence.cache or [0])[-1] + 1 for sequence in sequences]
        finally:
            self._working.release()

    def free(self, sequence: Counting) -> None:
        if sequence.cache is not None:
            self.caches = [cache for cache in self.caches if cache is not sequence.cache]
            sequence.cache = None

    def _measure(self) -> None:
        self.peak = max(self.peak, sum(map(len, self.caches)))


def sequence(first: int, length: int, count: int, *, ahead: bool = False, stop: int | None = None) -> Counting:
    """A prompt of ``length`` tokens from ``first`` on, and ``count`` more to draw."""
    stop_ids = frozenset[int]() if stop is None else frozenset({stop})
    prompt = list(range(first, first + length))
    return Sequence(token_ids=prompt, max_tokens=count, sampler=Echo(ahead=ahead), stop_ids=stop_ids)


def numbers(tokens: Iterator[Token]) -> list[int]:
    return [token.id for token in tokens]


def in_thread(call: Callable[[], object], outcomes: list[object]) -> threading.Thread:
    """Start a call; its result, or its error, is appended to ``outcomes``."""

    def work() -> None:
        try:
            outcomes.append(call())
        except BaseException as error:  # noqa: BLE001  (an outcome like others)
            outcomes.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def joined(threads: Many[threading.Thread]) -> None:
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive(), "a thread waits for ever"


def assert_idle(scheduler: Scheduler[list[int], int], runner: Counter) -> None:
    """No request, no cache and no turn is left behind."""
    assert runner.caches == []
    assert scheduler.waiting == scheduler.running == []
    assert not scheduler._turns
    assert scheduler._worker is None


@pytest.mark.parametrize("ahead", [False, True])
def test_a_request_alone_gets_its_tokens(ahead: bool) -> None:
    """One by one, no step more than is read unless the runner works ahead, and nothing is left behind."""
    runner = Counter(ahead=ahead)
    scheduler = Scheduler(runner, memory_bytes=100)
    tokens = scheduler.tokens(sequence(10, 6, 5, ahead=ahead))
    assert not runner.steps
    assert next(tokens).id == 16
    assert runner.steps == ["block", "block"] + ["decode 1"] * ahead
    assert numbers(tokens) == [17, 18, 19, 20]
    assert runner.steps.count("decode 1") == 4
    assert_idle(scheduler, runner)


def test_a_stopping_token_ends_a_sequence() -> None:
    """It is the last token, and frees the cache before it is read."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=100)
    first, second = scheduler.tokens(sequence(0, 1, 50, stop=2)), scheduler.tokens(sequence(50, 1, 4))
    assert next(first).id == 1
    assert next(second).id == 51
    assert next(second).id == 52
    assert len(runner.caches) == 1
    assert numbers(first) == [2]
    assert numbers(second) == [53, 54]


def test_streams_read_in_turns_by_one_thread_share_steps() -> None:
    """Whoever finds no token takes the step for all."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=1000)
    streams = [scheduler.tokens(sequence(100 * n, 2, 10)) for n in range(4)]
    rows = list(zip(*streams, strict=True))
    assert [token.id for token in rows[-1]] == [100 * n + 11 for n in range(4)]
    assert runner.steps.count("decode 4") >= 6
    assert len(runner.steps) < 24  # 4 blocks, and fewer than half of the 36 steps that each alone would take


def test_a_long_prompt_delays_others_by_one_block() -> None:
    """Between two blocks of a prompt every running sequence gets a token."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=1000)
    talking = scheduler.tokens(sequence(0, 1, 50))
    next(talking)
    reading = scheduler.tokens(sequence(100, 40, 3))
    assert next(reading).id == 140
    assert runner.steps[1:-1] == ["block", "decode 1"] * 9 + ["block"]
    assert numbers(talking) == list(range(2, 51))
    assert numbers(reading) == [141, 142]


@pytest.mark.parametrize("leave", ["close", "abandon", "throw"])
def test_a_stream_that_is_left_frees_its_cache_at_once(leave: str) -> None:
    """Closed early, forgotten, or ended by an error of its reader."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=100)
    tokens = scheduler.tokens(sequence(0, 3, 50))
    next(tokens)
    assert len(runner.caches) == 1
    if leave == "close":
        tokens.close()
    elif leave == "abandon":
        del tokens
        gc.collect()
    else:
        with pytest.raises(ZeroDivisionError):
            tokens.throw(ZeroDivisionError())
    assert_idle(scheduler, runner)


def test_caches_never_take_more_than_was_planned() -> None:
    """More requests than there is memory for run in turns: whoever came last gives way, and still gets its tokens."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=40)
    outcomes: list[object] = []
    threads = [
        in_thread(lambda n=n: numbers(scheduler.tokens(sequence(100 * n, 10, 30))), outcomes)  # type: ignore[misc]
        for n in range(6)
    ]
    joined(threads)
    assert sorted(outcomes) == [list(range(100 * n + 10, 100 * n + 40)) for n in range(6)]  # type: ignore[type-var]
    assert runner.peak <= 40
    assert_idle(scheduler, runner)


def test_a_stream_that_nobody_reads_gives_way() -> None:
    """It goes on until its reader is far behind; then its memory serves others, and its own reader misses nothing."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=200)
    first = scheduler.tokens(sequence(0, 1, 190))
    assert next(first).id == 1
    assert numbers(scheduler.tokens(sequence(1000, 1, 190))) == list(range(1001, 1191))
    assert numbers(first) == list(range(2, 191))
    assert runner.peak <= 200


def test_unread_tokens_are_bounded() -> None:
    """A sequence whose reader is behind by so many tokens pauses, and others do not."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=10_000)
    slow, fast = sequence(0, 1, 500), scheduler.tokens(sequence(1000, 1, 300))
    tokens = scheduler.tokens(slow)
    next(tokens)
    assert len(numbers(fast)) == 300
    assert len(slow.unread) == MAX_UNREAD_TOKENS
    assert len(numbers(tokens)) == 499


def test_requests_are_admitted_in_their_order() -> None:
    """First come, first served, whichever thread is quicker to wake."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=20)
    order: list[int] = []
    runner.fail = lambda sequences: order.extend(s.token_ids[0] for s in sequences if s.cache is None)
    first = scheduler.tokens(sequence(0, 10, 10))
    next(first)
    streams = [sequence(100 * n, 10, 10) for n in range(1, 5)]
    threads: list[threading.Thread] = []
    gate, outcomes = threading.Event(), list[object]()
    for number, other in enumerate(streams, 1):
        scheduler._enqueue(other)  # in this order; the threads that read come later, in whatever order

        def read(other: Counting = other) -> list[int]:
            gate.wait(SECONDS)
            scheduler._advance_until(lambda: other.finished)
            return [token.id for token in other.unread]

        threads.append(in_thread(read, outcomes))
        assert len(scheduler.waiting) == number
    gate.set()
    numbers(first)
    joined(threads)
    assert order == [0, 100, 200, 300, 400]


@pytest.mark.parametrize("ahead", [False, True])
def test_an_error_in_a_step_reaches_all_concerned_once(ahead: bool) -> None:
    """Each reader raises an error of its own with the same words; memory is free, and the next request is answered."""
    runner = Counter(ahead=ahead)
    scheduler = Scheduler(runner, memory_bytes=1000)
    failing = [scheduler.tokens(sequence(100 * n, 1, 9, ahead=ahead)) for n in range(2)]
    for tokens in failing:
        next(tokens)

    def fail(sequences: Many[Counting]) -> None:
        raise BackendError("It broke.", hint="Mend it.")

    runner.fail = fail
    errors = []
    for tokens in failing:
        with pytest.raises(BackendError, match="It broke") as caught:
            numbers(tokens)
        errors.append(caught.value)
        assert numbers(tokens) == []
    assert errors[0] is not errors[1]
    assert_idle(scheduler, runner)
    runner.fail = lambda sequences: None
    assert len(numbers(scheduler.tokens(sequence(0, 1, 9, ahead=ahead)))) == 9


def test_an_error_of_one_sequence_is_its_own() -> None:
    """An error of a sampler, such as a mask without an allowed token, ends that sequence alone."""
    scheduler = Scheduler(Counter(), memory_bytes=1000)

    class Refusing(Echo):
        def draw(self, logits: int) -> Token:
            raise InvalidRequestError("No token can go on.")

    refused = sequence(0, 1, 9)
    refused.sampler = Refusing()
    first, second = scheduler.tokens(refused), scheduler.tokens(sequence(100, 1, 9))
    with pytest.raises(InvalidRequestError, match="go on"):
        next(first)
    assert numbers(second) == list(range(101, 110))


@pytest.mark.parametrize("ahead", [False, True])
def test_an_interrupt_leaves_the_others_their_tokens(ahead: bool) -> None:
    """Ctrl-C ends the stream whose thread took the step; what the step left uncertain is computed again."""
    runner = Counter(ahead=ahead)
    scheduler = Scheduler(runner, memory_bytes=1000)
    first, second = (scheduler.tokens(sequence(100 * n, 3, 9, ahead=ahead)) for n in range(2))
    next(first)
    next(second)

    def interrupt(sequences: Many[Counting]) -> None:
        if len(sequences) == 2:
            sequences[0].cache.append(-1)  # type: ignore[union-attr]  # half a step
            raise KeyboardInterrupt

    runner.fail = interrupt
    with pytest.raises(KeyboardInterrupt):
        numbers(first)
    assert numbers(second) == list(range(104, 112))
    assert_idle(scheduler, runner)


def test_other_work_has_memory_and_the_network_for_itself() -> None:
    """It waits until memory is free, in its order, and its blocks alternate with the steps of others."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=40)
    talking = scheduler.tokens(sequence(0, 5, 35))
    next(talking)
    with scheduler.reserved(36):
        assert not runner.caches  # the answer was paused far behind its reader, or has ended
        with scheduler.exclusive():
            pass
        # What this thread itself holds it cannot wait for.
        assert numbers(scheduler.tokens(sequence(500, 5, 10))) == list(range(505, 515))
    assert numbers(talking) == list(range(6, 40))
    assert_idle(scheduler, runner)


def test_other_work_in_another_thread_is_waited_for() -> None:
    """A request that needs its memory starts when it is given back."""
    scheduler = Scheduler(Counter(), memory_bytes=40)
    holding, release, outcomes = threading.Event(), threading.Event(), list[object]()

    def work() -> None:
        with scheduler.reserved(40):
            holding.set()
            release.wait(SECONDS)

    threads = [in_thread(work, outcomes)]
    assert holding.wait(SECONDS)
    threads.append(in_thread(lambda: numbers(scheduler.tokens(sequence(0, 1, 3))), outcomes))
    while not scheduler.waiting:
        threading.Event().wait(0.001)
    release.set()
    joined(threads)
    assert outcomes == [None, [1, 2, 3]] or outcomes == [[1, 2, 3], None]


def test_closing_ends_all_streams() -> None:
    """Those that run, that wait for memory and that come later; closing waits for the step at work."""
    runner = Counter()
    scheduler = Scheduler(runner, memory_bytes=20)
    entered, leave, outcomes = threading.Event(), threading.Event(), list[object]()
    first, second = scheduler.tokens(sequence(0, 10, 10)), scheduler.tokens(sequence(100, 10, 10))
    next(first)

    def wait(sequences: Many[Counting]) -> None:
        entered.set()
        leave.wait(SECONDS)

    runner.fail = wait
    threads = [in_thread(lambda: numbers(first), outcomes)]
    assert entered.wait(SECONDS)
    threads.append(in_thread(lambda: numbers(second), outcomes))
    threads.append(in_thread(scheduler.close, outcomes))
    while not scheduler._closed:
        threading.Event().wait(0.001)
    leave.set()
    joined(threads)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType"] + ["StreamClosedError"] * 2
    assert_idle(scheduler, runner)
    for call in (lambda: next(scheduler.tokens(sequence(0, 1, 1))), lambda: scheduler.exclusive().__enter__()):
        with pytest.raises(StreamClosedError):
            call()


actions = st.lists(
    st.one_of(
        st.tuples(st.just("arrive"), st.integers(1, 12), st.integers(1, 25)),
        st.tuples(st.just("read"), st.integers(0, 7), st.integers(1, 30)),
        st.tuples(st.just("close"), st.integers(0, 7), st.just(0)),
        st.tuples(st.just("reserve"), st.integers(1, 40), st.just(0)),
    ),
    max_size=40,
)


@given(actions=actions, memory=st.integers(40, 120), ahead=st.booleans(), block=st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_any_schedule_leaves_nothing_behind(
    actions: list[tuple[str, int, int]], memory: int, ahead: bool, block: int
) -> None:
    """Arrivals, reads, cancellations and lengths as they come: each stream has its tokens, memory is kept to."""
    runner = Counter(ahead=ahead, block=block)
    scheduler = Scheduler(runner, memory_bytes=memory)
    streams: list[tuple[Generator[Token], Iterator[int]]] = []
    for kind, first, second in actions:
        if kind == "arrive":
            start = 1000 * len(streams)
            expected = iter(range(start + first, start + first + second))
            streams.append((scheduler.tokens(sequence(start, first, second, ahead=ahead)), expected))
        elif kind == "reserve":
            with scheduler.reserved(first), scheduler.exclusive():
                assert sum(map(len, runner.caches)) + first <= memory
        elif first < len(streams):
            tokens, expected = streams[first]
            for _ in range(second):
                assert next((token.id for token in tokens), None) == next(expected, None)
            if kind == "close":
                tokens.close()
                streams[first] = (tokens, iter(()))
        assert runner.peak <= memory
    for tokens, expected in streams:
        assert numbers(tokens) == list(expected)
    assert_idle(scheduler, runner)


@pytest.mark.parametrize("seed", range(4))
def test_many_threads_get_what_is_theirs(seed: int) -> None:
    """Whatever the timing: streams of several lengths, of which some are closed early, beside other work."""
    runner = Counter(ahead=seed % 2 == 1)
    scheduler = Scheduler(runner, memory_bytes=150)
    outcomes: list[object] = []

    def read(number: int) -> bool:
        length, count, stop = 1 + 7 * number % 20, 10 + 13 * number % 70, 5 + 11 * number % 90
        stream = scheduler.tokens(sequence(1000 * number, length, count, ahead=runner.ahead))
        ids = [token.id for token, _ in zip(stream, range(stop), strict=False)]
        stream.close()
        return ids == list(range(1000 * number + length, 1000 * number + length + min(count, stop)))

    def work() -> bool:
        for _ in range(5):
            with scheduler.reserved(30), scheduler.exclusive():
                pass
        return True

    threads = [in_thread(lambda n=n: read(n + seed), outcomes) for n in range(12)]  # type: ignore[misc]
    threads.append(in_thread(work, outcomes))
    joined(threads)
    assert outcomes == [True] * 13
    assert runner.peak <= 150
    assert_idle(scheduler, runner)
