"""Whether a failed request is sent again, and when. Pure: time and chance come from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from llama4sdk.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    Llama4Error,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
)
from llama4sdk.remote.endpoint import RetryPolicy

__all__ = ["CircuitBreaker", "TokenBucket", "delay", "is_fault"]

CAPACITY: Final = 100
COST: Final = 5
"""A retry takes so many tokens and a success gives one back: when an endpoint is down, retries soon stop."""

FAULTS: Final = 10
COOLDOWN: Final = 15.0


def delay(error: Llama4Error, number: int, policy: RetryPolicy, chance: float) -> float | None:
    """Seconds to wait before retry ``number`` (from 0); ``None`` where there is to be none.

    ``chance`` is drawn evenly from 0 to 1: clients that failed together do not come back together.
    """
    if number >= policy.retries or not _worthwhile(error, policy):
        return None
    hint = error.retry_after if isinstance(error, APIError) else None
    if hint is not None and hint > 0:
        return hint if hint <= policy.longest_hint else None
    throttled = isinstance(error, RateLimitError | OverloadedError)
    longest: float = min(policy.longest, (policy.throttled if throttled else policy.base) * 2.0**number)
    return chance * longest


def _worthwhile(error: Llama4Error, policy: RetryPolicy) -> bool:
    if isinstance(error, StreamInterruptedError):  # before its first event, or it would not be asked
        return True
    if isinstance(error, APITimeoutError) and error.phase != "connect":
        return policy.timeouts and error.phase != "total"
    return isinstance(error, APIError) and error.retryable


def is_fault(error: BaseException) -> bool:
    """Whether it speaks against the endpoint's health: a wrong request or key does not."""
    if isinstance(error, APIConnectionError | APITimeoutError | OverloadedError):
        return True
    return isinstance(error, APIError) and error.status is not None and error.status >= 500


class TokenBucket:
    """What all requests of one client may spend on retries together."""

    def __init__(self, capacity: int = CAPACITY, cost: int = COST) -> None:
        self._capacity = self._tokens = capacity
        self._cost = cost
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Pay for a retry; ``False`` when nothing is left."""
        with self._lock:
            if self._tokens < self._cost:
                return False
            self._tokens -= self._cost
            return True

    def give(self) -> None:
        """A request succeeded."""
        if self._tokens < self._capacity:  # unlocked: a token more or less does not matter, the lock's time does
            with self._lock:
                self._tokens = min(self._capacity, self._tokens + 1)


class CircuitBreaker:
    """Stops asking an endpoint that only fails: after ``faults`` in a row for ``cooldown`` seconds, then one trial."""

    def __init__(self, clock: Callable[[], float], *, faults: int = FAULTS, cooldown: float = COOLDOWN) -> None:
        self._clock = clock
        self._faults = faults
        self._cooldown = cooldown
        self._count = 0
        self._closed_at = 0.0
        self._trial = False
        self._lock = threading.Lock()
        self.last: BaseException | None = None

    def wait(self) -> float:
        """Seconds for which nothing is asked; 0 where this request may go."""
        if self._count < self._faults:
            return 0.0
        with self._lock:
            left = self._closed_at + self._cooldown - self._clock()
            if left > 0:
                return left
            if self._trial:
                return self._cooldown
            self._trial = True
            return 0.0

    def succeeded(self) -> None:
        """The endpoint answered: whatever came before is forgotten."""
        if self._count:
            with self._lock:
                self._count, self._trial = 0, False

    def failed(self, error: BaseException) -> None:
        """The endpoint failed, or answered with an error that says nothing of its health."""
        if not is_fault(error):
            self.succeeded()
            return
        with self._lock:
            self._count += 1
            self._trial = False
            self._closed_at = self._clock()
            self.last = error

    def abandoned(self) -> None:
        """The request ended without telling anything."""
        self._trial = False
