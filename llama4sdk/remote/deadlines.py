"""Deadlines of one request's phases: to connect, for the first byte, between two pieces, and in all.

HTTP libraries bound a single read. A server that sends one byte now and then never exceeds that, so the ends of whole
phases are computed here, and every wait of the transport ends at the one that comes first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias

from llama4sdk.endpoint import Timeouts

Phase: TypeAlias = Literal["connect", "first_byte", "between", "total"]

#: Seconds that stand for "no limit".
UNLIMITED_SECONDS: Final = 10.0**8

#: Seconds that the end of a body is waited for once the answer is complete.
LINGER_SECONDS: Final = 0.25

#: Seconds that an error's body is waited for: its status is known already.
ERROR_BODY_SECONDS: Final = 5.0


class Deadlines:
    """When the phases of one request end, over all its attempts. Times are seconds of the event loop's clock."""

    def __init__(self, timeouts: Timeouts, clock: Callable[[], float]) -> None:
        """``clock`` is the event loop's ``time``."""
        self._timeouts = timeouts
        self._clock = clock
        self._between = timeouts.between or UNLIMITED_SECONDS
        self._total_end = clock() + (timeouts.total or UNLIMITED_SECONDS)
        self._phase: Phase = "first_byte"
        self._phase_end: float | None = None
        self._connect_end = self._total_end
        self._closing = False

    def begin_attempt(self) -> None:
        """Start the phases anew; the total goes on."""
        self._closing = False
        self._phase, self._phase_end = "first_byte", self._clock() + (self._timeouts.first_byte or UNLIMITED_SECONDS)

    def begin_body(self) -> None:
        """Note that a piece of the answer arrived: from now on each piece is waited for by itself."""
        if not self._closing:
            self._phase, self._phase_end = "between", None

    def begin_linger(self) -> bool:
        """Bound the wait for the end of a body whose answer is complete; ``False`` once that time is over."""
        self._bound("between", LINGER_SECONDS)
        return self._phase_end is not None and self._clock() < self._phase_end

    def begin_error_body(self) -> None:
        """Bound the wait for the body of an error whose status is known."""
        self._bound(self._phase, ERROR_BODY_SECONDS)

    def _bound(self, phase: Phase, seconds: float) -> None:
        if not self._closing:
            self._closing = True
            self._phase, self._phase_end = phase, self._clock() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left in all."""
        return self._total_end - self._clock()

    def begin_connecting(self) -> float:
        """When a connection that is begun now must be made: name lookup, TCP and TLS together."""
        self._connect_end = self._clock() + self._timeouts.connect
        return min(self._connect_end, self.read_end())

    def read_end(self) -> float:
        """When a read that is begun now must be over."""
        phase_end = self._clock() + self._between if self._phase_end is None else self._phase_end
        return min(phase_end, self._total_end)

    def expired_phase(self, *, connecting: bool) -> Phase:
        """The phase whose end was reached."""
        now = self._clock()
        if now >= self._total_end:
            return "total"
        return "connect" if connecting and now >= self._connect_end else self._phase


class WaitGroup:
    """The waits of one event loop, which all end when the group is closed."""

    def __init__(self) -> None:
        self.closed = False
        self._timers: set[asyncio.Timeout] = set()

    def until(self, when: float) -> Wait:
        """Bound what is awaited in an ``async with``: TimeoutError at ``when``, or as soon as the group is closed."""
        return Wait(self._timers, 0.0 if self.closed else when)

    async def sleep(self, seconds: float) -> None:
        """Wait that long, or until the group is closed."""
        with suppress(TimeoutError):
            async with self.until(asyncio.get_running_loop().time() + seconds):
                await asyncio.get_running_loop().create_future()

    def close(self) -> None:
        """End every wait. To be called in the event loop's own thread."""
        self.closed = True
        for timer in self._timers:
            _reschedule(timer, 0.0)


class Wait:
    """``asyncio.timeout_at``, known to its group."""

    __slots__ = ("_timer", "_timers")

    def __init__(self, timers: set[asyncio.Timeout], when: float) -> None:
        self._timers = timers
        self._timer = asyncio.timeout_at(when)

    def reschedule(self, when: float) -> None:
        """Change the deadline, unless it has passed already."""
        _reschedule(self._timer, when)

    async def __aenter__(self) -> Self:
        await self._timer.__aenter__()
        self._timers.add(self._timer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timers.discard(self._timer)
        await self._timer.__aexit__(kind, error, traceback)


def _reschedule(timer: asyncio.Timeout, when: float) -> None:
    if not timer.expired():
        timer.reschedule(when)
