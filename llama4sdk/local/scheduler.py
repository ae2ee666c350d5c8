"""Continuous batching: the requests of one network advance together, one step at a time.

There is no thread of its own. A reader that finds no token of its sequence takes a step for all running sequences: one
block of a prompt, then one token of each. So the weights are read once a step, and a long prompt delays others by one
block. Whoever comes later waits for that step, and finds its token ready.

Memory is a promise: the caches never take more than was planned. A sequence is admitted when its tokens fit, in order
of arrival. When the others' growth leaves no room, the sequence that came last gives its cache back and waits again;
its tokens so far are its new prompt. Sequences whose reader is behind pause, and give way first.

A sequence's tokens do not depend on its company, up to rounding: matrices times several rows may sum in another order
than times one. Greedy tokens are equal unless two scores are closer than that.
"""

from __future__ import annotations

import copy
import threading
from bisect import insort
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from llama4sdk.errors import StreamClosedError
from llama4sdk.local.sequence import ModelRunner, Reservation, Sequence, Token

#: Tokens that wait for a reader; with so many its sequence pauses.
MAX_UNREAD_TOKENS: Final = 64

Work: TypeAlias = Literal["block", "token"]

Cache = TypeVar("Cache")
Logits = TypeVar("Logits")


class Scheduler(Generic[Cache, Logits]):
    """Shares one network among requests, within ``memory_bytes`` of caches.

    ``measured`` surrounds all work of the network, of which a block of a prompt takes long and a token does not.
    """

    def __init__(
        self,
        runner: ModelRunner[Cache, Logits],
        *,
        memory_bytes: int,
        measured: Callable[[Work], AbstractContextManager[None]] = lambda work: nullcontext(),
    ) -> None:
        self.waiting: list[Reservation] = []
        self.running: list[Reservation] = []
        self.memory_bytes = memory_bytes
        self._runner = runner
        self._measured = measured
        self._changed = threading.Condition()  # reentrant: a generator may be collected, and closed, at any moment
        self._turns: deque[object] = deque()
        self._worker: int | None = None  # the thread that has the network
        self._arrivals = count()
        self._version = 0  # rises with every change that may let a step do more than the last
        self._nested: list[Reservation] = []  # what the worker itself holds, and so cannot wait for
        self._closed = False

    def tokens(self, sequence: Sequence[Cache, Logits]) -> Generator[Token]:
        """The sequence's tokens as they are drawn. Closing the generator frees the cache at once, or after this step.

        Raises what the network raised for this sequence, and StreamClosedError.
        """
        self._enqueue(sequence)
        try:
            while (token := self._next_token(sequence)) is not None:
                yield token
        finally:
            sequence.cancelled = True
            self._leave(sequence)

    @contextmanager
    def reserved(self, tokens: int) -> Iterator[None]:
        """Hold memory for the caches of other work, once there is room for it. Raises StreamClosedError."""
        reservation = Reservation(tokens=tokens, thread=threading.get_ident())
        self._enqueue(reservation)
        try:
            self._advance_until(lambda: reservation in self.running)
            yield
        finally:
            self._leave(reservation)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Have the network for one block of other work, between two steps. Raises StreamClosedError."""
        with self._turn(lambda: False), self._measured("block"):
            yield

    def step(self) -> bool:
        """Advance all running sequences; False when there is nothing to do. Only for the thread that has the turn."""
        self._nested = [entry for entry in self.running if entry.thread == threading.get_ident()]
        try:
            self._admit()
            return self._step()
        except BaseException:  # an interrupt: which tokens the caches hold is uncertain now
            for sequence in self._sequences():
                self._preempt(sequence, read=False)
            raise

    def close(self) -> None:
        """End all streams with StreamClosedError, and return once nobody uses the network."""
        with self._changed:
            self._closed = True
            self._notify()
            while self._worker is not None and self._worker != threading.get_ident():
                self._changed.wait()
            for sequence in self._sequences():
                self._release(sequence)

    def _step(self) -> bool:
        active = [s for s in self._sequences() if not s.cancelled and len(s.unread) < MAX_UNREAD_TOKENS]
        prompts = [sequence for sequence in active if not sequence.prefilled]
        if prompts:
            self._prefill(prompts[0])
        active = [sequence for sequence in active if sequence.prefilled and sequence not in prompts]
        self._make_room()
        if decoding := [sequence for sequence in active if sequence in self.running]:
            self._decode(decoding)
        return bool(prompts or active)

    def _prefill(self, sequence: Sequence[Cache, Logits]) -> None:
        try:
            with self._measured("block"):
                logits = self._runner.prefill(sequence)
        except Exception as error:  # noqa: BLE001  (the sequence's reader raises it)
            self._finish(sequence, error)
        else:
            if logits is not None:
                sequence.prefilled = True
                self._take(sequence, logits)

    def _decode(self, sequences: list[Sequence[Cache, Logits]]) -> None:
        try:
            with self._measured("token"):
                rows = self._runner.decode(sequences)
        except Exception as error:  # noqa: BLE001  (every reader concerned raises it)
            for sequence in sequences:
                self._finish(sequence, _copy_error(error))
            return
        for sequence, logits in zip(sequences, rows, strict=True):
            sequence.num_cached += 1
            self._take(sequence, logits)

    def _take(self, sequence: Sequence[Cache, Logits], logits: Logits) -> None:
        """Draw from logits. A runner that works ahead has them before the token is read that they come behind."""
        try:
            sequence.read()
            if not sequence.finished:
                sequence.draw(logits)
                if not self._runner.ahead or sequence.num_drawn >= sequence.max_tokens:
                    sequence.read()
        except Exception as error:  # noqa: BLE001  (the sequence's reader raises it)
            self._finish(sequence, error)
        if sequence.finished:
            self._release(sequence)

    def _finish(self, sequence: Sequence[Cache, Logits], error: Exception) -> None:
        sequence.error, sequence.finished = error, True
        self._release(sequence)

    def _admit(self) -> None:
        """Let requests run in their order, as long as memory lasts."""
        with self._changed:
            while self.waiting:
                if not self._fits(self.waiting[0]) and not self._pause_one():
                    return
                self.running.append(self.waiting.pop(0))
                self._notify()

    def _pause_one(self) -> bool:
        """Free the cache of a sequence that nobody reads, if nothing else can make room. True when room may be had."""
        paused = [sequence for sequence in self._sequences() if len(sequence.unread) >= MAX_UNREAD_TOKENS]
        if not paused or len(paused) < len(self._counted()):
            return False
        while paused and not self._fits(self.waiting[0]):
            self._preempt(paused.pop(), behind=True)
        return True

    def _make_room(self) -> None:
        """Take the cache of whoever came last, while those that go on need more than there is."""
        while len(self._counted()) > 1 and self._bytes_over() > 0:
            sequences = self._sequences()
            paused = [sequence for sequence in sequences if len(sequence.unread) >= MAX_UNREAD_TOKENS]
            self._preempt(max(paused or sequences, key=lambda sequence: sequence.arrival))

    def _preempt(self, sequence: Sequence[Cache, Logits], *, read: bool = True, behind: bool = False) -> None:
        """Take a sequence's cache: it waits to be computed again, in its order or ``behind`` all that wait now."""
        if read:
            try:
                sequence.read()
            except Exception as error:  # noqa: BLE001  (the sequence's reader raises it)
                self._finish(sequence, error)
        elif sequence.pending is not None:
            sequence.pending, sequence.num_drawn = None, sequence.num_drawn - 1
        with self._changed:
            self._release(sequence)
            if not (sequence.finished or sequence.cancelled):
                sequence.arrival = next(self._arrivals) if behind else sequence.arrival
                insort(self.waiting, sequence, key=lambda entry: entry.arrival)

    def _fits(self, reservation: Reservation) -> bool:
        others = self._counted()
        return not others or self._bytes_over(reservation) <= 0

    def _bytes_over(self, *more: Reservation) -> int:
        return self._runner.cache_bytes([*self._counted(), *more]) - self.memory_bytes

    def _counted(self) -> list[Reservation]:
        return [entry for entry in self.running if entry not in self._nested]

    def _sequences(self) -> list[Sequence[Cache, Logits]]:
        return [entry for entry in self.running if isinstance(entry, Sequence)]

    def _release(self, reservation: Reservation) -> None:
        with self._changed:
            for entries in (self.waiting, self.running):
                if reservation in entries:
                    entries.remove(reservation)
            if isinstance(reservation, Sequence):
                self._runner.free(reservation)
                reservation.num_cached, reservation.prefilled = 0, False
            self._notify()

    def _enqueue(self, reservation: Reservation) -> None:
        with self._changed:
            self._refuse_closed()
            reservation.arrival = next(self._arrivals)
            self.waiting.append(reservation)
            self._notify()

    def _leave(self, reservation: Reservation) -> None:
        """Free at once, unless a step is using the cache: then its end does."""
        with self._changed:
            if self._worker is None or reservation in self.waiting or not isinstance(reservation, Sequence):
                self._release(reservation)

    def _next_token(self, sequence: Sequence[Cache, Logits]) -> Token | None:
        self._advance_until(lambda: bool(sequence.unread) or sequence.finished)
        if sequence.unread:
            return sequence.unread.popleft()
        if sequence.error is not None:
            raise sequence.error
        return None

    def _advance_until(self, done: Callable[[], bool]) -> None:
        """Take steps, or wait for those that other threads take."""
        while True:
            self._refuse_closed()
            if done():
                return
            version = self._version
            with self._turn(done) as mine:
                idle = mine and not done() and not self.step()
            with self._changed:
                while idle and self._version == version and not self._closed:
                    self._changed.wait()  # other work holds the memory, in a thread that goes on

    @contextmanager
    def _turn(self, done: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the network, and have it; False when ``done`` came first. In order, so that all get on."""
        ticket, mine = object(), False
        try:
            with self._changed:
                self._turns.append(ticket)
                try:
                    while not done() and (self._worker is not None or self._turns[0] is not ticket):
                        self._refuse_closed()
                        self._changed.wait()
                    self._refuse_closed()
                    if mine := not done():
                        self._worker = threading.get_ident()
                finally:
                    self._turns.remove(ticket)
                    self._changed.notify_all()
            yield mine
        finally:
            if mine:
                self._end_turn()

    def _end_turn(self) -> None:
        with self._changed:
            self._worker = None
            for sequence in self._sequences():
                if sequence.cancelled:
                    self._release(sequence)
            self._changed.notify_all()

    def _notify(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise closed_error()


def _copy_error(error: Exception) -> Exception:
    """One for each thread: raising the same in several would mix up their tracebacks."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001  (an exception that cannot be made again)
        return error
    twin.__cause__ = error.__cause__
    return twin


def closed_error() -> StreamClosedError:
    """The error of every use of a closed engine."""
    return StreamClosedError("The engine was closed.", hint="Make a new client.")
