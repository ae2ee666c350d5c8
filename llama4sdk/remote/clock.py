"""How long one exchange may still be waited for.

HTTP libraries bound a single read. A server that sends one byte now and then never exceeds that, so the ends of whole
phases are kept here, and asked for at every read.
"""

from __future__ import annotations

import time
from typing import Final, Literal, Self, TypeAlias

from llama4sdk.remote.endpoint import Timeouts

__all__ = ["Clock", "Limit", "Phase"]

Phase: TypeAlias = Literal["connect", "first_byte", "between", "total"]

FOREVER: Final = 10.0**8
LINGER: Final = 0.25
"""Seconds that the end of a body is waited for once the answer is complete."""


class Clock:
    """Of one request, all its tries. Times are seconds of ``time.monotonic``."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        now = time.monotonic()
        self._end = now + (timeouts.total or FOREVER)
        self._phase: Phase = "first_byte"
        self._phase_end: float | None = None
        self._lingering = False

    def begin(self) -> None:
        """A try begins."""
        self._lingering = False
        self._phase = "first_byte"
        self._phase_end = time.monotonic() + (self._timeouts.first_byte or FOREVER)

    def arrived(self) -> None:
        """The first piece of the answer is here: from now on each is waited for by itself."""
        if not self._lingering:
            self._phase, self._phase_end = "between", None

    def linger(self) -> bool:
        """The answer is complete, and only the end of its body is missing: whether that is still waited for."""
        if not self._lingering:
            self._lingering = True
            self._phase, self._phase_end = "between", time.monotonic() + LINGER
        return self._phase_end is not None and time.monotonic() < self._phase_end

    @property
    def remaining(self) -> float:
        """Seconds left in all."""
        return self._end - time.monotonic()

    @property
    def exhausted(self) -> Phase:
        """Which limit it is that has been reached."""
        return "total" if self.remaining <= 0 else self._phase

    def left(self) -> float:
        """Seconds that the next read may take; never 0, which would mean not to wait at all."""
        now = time.monotonic()
        pace = (self._timeouts.between or FOREVER) if self._phase_end is None else self._phase_end - now
        return max(0.001, min(pace, self._end - now))

    def connecting(self) -> float:
        """Seconds that a connection may take."""
        return max(0.001, min(self._timeouts.connect, self.remaining))


class Limit(float):
    """A number of seconds to those who only know numbers, and a clock to those who ask again."""

    clock: Clock

    def __new__(cls, clock: Clock) -> Self:
        """What is left at this moment."""
        limit = super().__new__(cls, clock.left())
        limit.clock = clock
        return limit
