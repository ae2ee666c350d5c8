"""Whether a failed request is sent again, and when. Pure: time and chance come from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from llama4sdk.endpoint import RetryPolicy
from llama4sdk.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ContentFilteredError,
    ContextLengthError,
    Llama4Error,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
)

__all__ = ["CircuitBreaker", "TokenBucket", "delay", "is_fault"]

CAPACITY: Final = 100
COST: Final = 5
"""A retry takes so many tokens and a success gives one back: when an endpoint is down, retries soon stop."""

FAULTS: Final = 10
DURING: Final = 2.0
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
    if isinstance(error, APITimeoutError) and not error.retryable:
        return policy.timeouts and error.phase != "total"
    return isinstance(error, APIError) and error.retryable


def is_fault(error: Llama4Error) -> bool:
    """Whether it speaks against the endpoint's health: a wrong request or key does not, nor an impatient caller."""
    if isinstance(error, APITimeoutError) and error.phase == "total":
        return False
    if isinstance(error, APIConnectionError | APITimeoutError | OverloadedError | StreamInterruptedError):
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

    def give(self, *, retried: bool) -> None:
        """A request succeeded: a retry that helped gets back what it cost."""
        if self._tokens < self._capacity:  # a full one, the usual case, takes no lock
            with self._lock:
                self._tokens = min(self._capacity, self._tokens + (self._cost if retried else 1))


class CircuitBreaker:
    """Stops asking an endpoint that only fails, and then tries it with one request at a time.

    It opens after ``faults`` in a row, where they are no single moment's: hundreds of streams that break together are
    one mishap. While it is open, one request goes through every ``cooldown`` seconds; its success closes it.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        faults: int = FAULTS,
        during: float = DURING,
        cooldown: float = COOLDOWN,
    ) -> None:
        self._clock = clock
        self._faults = faults
        self._during = during
        self._cooldown = cooldown
        self._count = 0
        self._since = 0.0
        self._until: float | None = None
        self._lock = threading.Lock()
        self.told = ""
        """What the last fault was, in words."""

    def wait(self) -> float:
        """Seconds for which nothing is asked; 0 where this request may go."""
        if not self._count:
            return 0.0
        with self._lock:
            now = self._clock()
            if self._until is None:
                return 0.0
            if now < self._until:
                return self._until - now
            self._until = now + self._cooldown
            return 0.0

    def succeeded(self) -> None:
        """The endpoint answered: whatever came before is forgotten."""
        if self._count:
            with self._lock:
                self._count, self._until = 0, None

    def failed(self, error: Llama4Error) -> None:
        """The endpoint failed, or answered with an error that says nothing of its health."""
        if not is_fault(error):
            if isinstance(error, APIError | ContextLengthError | ContentFilteredError):
                self.succeeded()
            return
        with self._lock:
            now = self._clock()
            if not self._count:
                self._since = now
            self._count += 1
            self.told = error.message
            if self._count >= self._faults and now - self._since >= self._during:
                self._until = now + self._cooldown
