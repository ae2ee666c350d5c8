"""Steps of several threads as one run of the network, without a thread of its own.

Whoever wants a step queues it, and whoever finds the network free runs all that are queued. Blocks of prompts stand in
the same line, so a long prompt and the steps of others take turns.
"""

from __future__ import annotations

import copy
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from llama4sdk.errors import (
    StreamClosedError,
)

__all__ = ["Batcher", "Step", "engine_closed"]

PATIENCE: Final = 0.1
"""Of the last run's time: so long the next waits for who took part in the last and may be about to queue again."""

Member = TypeVar("Member")
Given = TypeVar("Given")
Result = TypeVar("Result")


@dataclass(eq=False, slots=True)
class Step(Generic[Member, Given, Result]):
    """What one thread waits for. Whoever runs it sets ``result``."""

    member: Member
    given: Given
    result: Result | None = None
    error: Exception | None = None
    thread: int = field(default_factory=threading.get_ident)

    @property
    def done(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.result is not None or self.error is not None


Steps = list[Step[Member, Given, Result]]


@dataclass(eq=False, slots=True)
class _Place(Generic[Member, Given, Result]):
    """A place in the line: of all steps that go together, or, without any, of a run of another kind."""

    steps: Steps[Member, Given, Result] = field(default_factory=list)


class Batcher(Generic[Member, Given, Result]):
    """One network that several threads use.

    ``run`` sets the results of the steps it is given. It may be given a step again, when the thread that ran it was
    interrupted before the result was there.
    """

    def __init__(self, run: Callable[[Steps[Member, Given, Result]], None]) -> None:
        self._run = run
        self._changed = threading.Condition()
        self._line: deque[_Place[Member, Given, Result]] = deque()
        self._joinable: _Place[Member, Given, Result] | None = None
        """The steps that one more can be added to, in the line or gathering."""
        self._running: _Place[Member, Given, Result] = _Place()
        self._leader: object | None = None
        """Whose thread has the network."""
        self._thread = 0
        self._partners: dict[Member, int] = {}
        """Who took part in the last run of steps, and in which thread."""
        self._seconds = 0.0
        self._closed = False

    def step(self, member: Member, given: Given) -> Result:
        """One step's result. Raises what ``run`` raised, and StreamClosedError."""
        step: Step[Member, Given, Result] = Step(member, given)
        try:
            with self._changed:
                self._refuse_closed()
                self._join(step)
                self._await(step)
                if not step.done:
                    self._take(step)
                    self._gather()
            if self._leader is step:
                self._lead(self._running.steps)
        finally:
            if not step.done or self._leader is step:
                self._leave(step)
        if step.result is None:
            raise step.error or engine_closed()
        return step.result

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the network for one run of another kind. Raises StreamClosedError."""
        place: _Place[Member, Given, Result] = _Place()
        try:
            with self._changed:
                self._line.append(place)
                self._refuse_closed()
                while self._leader is not None or self._line[0] is not place:
                    self._changed.wait()
                    self._refuse_closed()
                self._take(place)
            yield
        finally:
            self._leave(place)

    def forget(self, member: Member) -> None:
        """Do not wait for this one: it will queue no more."""
        with self._changed:
            if self._partners.pop(member, None) is not None:
                self._changed.notify_all()

    def close(self) -> None:
        """End all waiting with StreamClosedError, and come back once nobody uses the network."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            while self._leader is not None and self._thread != threading.get_ident():
                self._changed.wait()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise engine_closed()

    def _join(self, step: Step[Member, Given, Result]) -> None:
        if self._joinable is None:
            self._joinable = _Place()
            self._line.append(self._joinable)
        self._joinable.steps.append(step)
        self._changed.notify_all()  # one that gathers may wait for this

    def _await(self, step: Step[Member, Given, Result]) -> None:
        """Until it is done, or its place is the first in line and the network free."""
        while not step.done:
            if step not in self._running.steps:
                self._refuse_closed()
                if self._leader is None and step in self._line[0].steps:
                    return
            self._changed.wait()

    def _take(self, ticket: object) -> None:
        self._leader = ticket
        self._thread = threading.get_ident()
        self._running = self._line.popleft()

    def _gather(self) -> None:
        """Wait for those who may be about to join; what this thread itself would have to do cannot be waited for."""
        deadline = time.perf_counter() + PATIENCE * self._seconds
        others = {member for member, thread in self._partners.items() if thread != self._thread}
        while others & self._partners.keys() - {step.member for step in self._running.steps}:
            left = deadline - time.perf_counter()
            if left <= 0:
                break
            self._changed.wait(left)
        self._joinable = None
        self._refuse_closed()

    def _lead(self, steps: Steps[Member, Given, Result]) -> None:
        begin = time.perf_counter()
        try:
            self._run(steps)
        except Exception as error:  # noqa: BLE001  (every thread concerned raises it)
            for step in steps:
                if not step.done:
                    step.error = _copied(error)
        self._seconds = time.perf_counter() - begin
        self._partners = {step.member: step.thread for step in steps}

    def _leave(self, ticket: object) -> None:
        """However it ended, let the next have the network, and what others still wait for stand in line."""
        with self._changed:
            if self._leader is not ticket:
                self._withdraw(ticket)
            else:
                rest = [step for step in self._running.steps if not step.done and step is not ticket]
                if self._joinable is self._running:
                    self._joinable = None
                self._leader, self._running = None, _Place()
                if rest:
                    self._line.appendleft(_Place(rest))
            self._changed.notify_all()

    def _withdraw(self, ticket: object) -> None:
        for place in tuple(self._line):
            if ticket in place.steps:
                place.steps.remove(ticket)
                ticket = ticket if place.steps else place
            if place is ticket:
                self._line.remove(place)
                if place is self._joinable:
                    self._joinable = None


def _copied(error: Exception) -> Exception:
    """One for each thread: raising the same in several would mix up their tracebacks."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001  (an exception that cannot be made again)
        return error
    twin.__cause__ = error.__cause__
    return twin


def engine_closed() -> StreamClosedError:
    """What is raised of an engine that was closed."""
    return StreamClosedError("The engine was closed.", hint="Make a new client.")
