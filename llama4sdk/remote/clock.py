"""How long one exchange may still be waited for.

HTTP libraries bound a single read. A server that sends one byte now and then never exceeds that, so the ends of whole
phases are kept here, and asked for at every read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Literal, Self, TypeAlias

from llama4sdk.endpoint import Timeouts

__all__ = ["FOREVER", "Clock", "Limit", "Phase", "seconds"]

Phase: TypeAlias = Literal["connect", "first_byte", "between", "total"]

FOREVER: Final = 10.0**8
LINGER: Final = 0.25
"""Seconds that the end of a body is waited for once the answer is complete."""

EXPLAINING: Final = 5.0
"""Seconds that an error's explanation is waited for: its status is known already."""

SHORTEST: Final = 0.001
"""Seconds: 0 would mean not to wait at all."""


class Clock:
    """Of one request, all its tries. Times are seconds of ``time.monotonic``."""

    def __init__(self, timeouts: Timeouts) -> None:
        now = time.monotonic()
        self._timeouts = timeouts
        self._between = timeouts.between or FOREVER
        self._end = now + (timeouts.total or FOREVER)
        self._connect_end = now
        self._phase: Phase = "first_byte"
        self._phase_end: float | None = None
        self._lingering = False

    def begin(self) -> None:
        """A try begins."""
        now = time.monotonic()
        self._lingering = False
        self._phase, self._phase_end = "first_byte", now + (self._timeouts.first_byte or FOREVER)
        self._connect_end = now + self._timeouts.connect

    def arrived(self) -> None:
        """A piece of the answer is here: from now on each is waited for by itself."""
        if not self._lingering:
            self._phase, self._phase_end = "between", None

    def linger(self) -> bool:
        """The answer is complete, and only the end of its body is missing: whether that is still waited for."""
        self._until("between", LINGER)
        return self._phase_end is not None and time.monotonic() < self._phase_end

    def explaining(self) -> None:
        """An error is being read, of which the status is known."""
        self._until(self._phase, EXPLAINING)

    def _until(self, phase: Phase, seconds: float) -> None:
        if not self._lingering:
            self._lingering = True
            self._phase, self._phase_end = phase, time.monotonic() + seconds

    @property
    def remaining(self) -> float:
        """Seconds left in all."""
        return self._end - time.monotonic()

    def exhausted(self, *, connecting: bool) -> Phase:
        """Which limit it is that has been reached."""
        now = time.monotonic()
        if now >= self._end:
            return "total"
        return "connect" if connecting and now >= self._connect_end else self._phase

    def left(self) -> float:
        """Seconds that the next read may take."""
        now = time.monotonic()
        pace = self._between if self._phase_end is None else self._phase_end - now
        return max(SHORTEST, min(pace, self._end - now))

    def connecting(self) -> float:
        """Seconds that are left for a connection: name lookup, TCP and TLS together."""
        return max(SHORTEST, min(self._connect_end - time.monotonic(), self.left()))


class Limit(float):
    """A number of seconds to those who only know numbers; what is left now to those who ask again."""

    left: Callable[[], float]
    heard: bool
    """Whether a byte came back."""

    def __new__(cls, left: Callable[[], float]) -> Self:
        """What is left at this moment."""
        limit = super().__new__(cls, left())
        limit.left = left
        limit.heard = False
        return limit


def seconds(timeout: float | None) -> float:
    """What is left of it now."""
    if isinstance(timeout, Limit):
        return timeout.left()
    return FOREVER if timeout is None else timeout
