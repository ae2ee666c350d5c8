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

#: Tokens that retries are paid with: each costs some and a success gives one back, so that retries soon stop when an
#: endpoint is down.
RETRY_TOKENS: Final = 100
RETRY_COST_TOKENS: Final = 5

#: Faults in a row that open the circuit breaker, and the seconds they must span at least.
MAX_FAULTS: Final = 10
MIN_FAULT_SECONDS: Final = 2.0

#: Seconds that the circuit breaker stays open.
COOLDOWN_SECONDS: Final = 15.0


def delay(error: Llama4Error, number: int, policy: RetryPolicy, chance: float) -> float | None:
    """Seconds to wait before retry ``number`` (from 0); ``None`` where there is to be none.

    ``chance`` is drawn evenly from 0 to 1: clients that failed together do not come back together.
    """
    if number >= policy.retries or not _is_retryable(error, policy):
        return None
    hint = error.retry_after if isinstance(error, APIError) else None
    if hint is not None and hint > 0:
        return hint if hint <= policy.longest_hint else None
    throttled = isinstance(error, RateLimitError | OverloadedError)
    longest: float = min(policy.longest, (policy.throttled if throttled else policy.base) * 2.0**number)
    return chance * longest


def _is_retryable(error: Llama4Error, policy: RetryPolicy) -> bool:
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
    """A budget for retries that all requests of one client share."""

    def __init__(self, capacity: int = RETRY_TOKENS, cost: int = RETRY_COST_TOKENS) -> None:
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
    """Stops sending to an endpoint that only fails, and then tries it with one request at a time.

    It opens after ``faults`` in a row, where they are no single moment's: hundreds of streams that break together are
    one mishap. While it is open, one request goes through every ``cooldown`` seconds; its success closes it.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        faults: int = MAX_FAULTS,
        span: float = MIN_FAULT_SECONDS,
        cooldown: float = COOLDOWN_SECONDS,
    ) -> None:
        self._clock = clock
        self._faults = faults
        self._span = span
        self._cooldown = cooldown
        self._count = 0
        self._first_fault_at = 0.0
        self._open_until: float | None = None
        self._lock = threading.Lock()
        #: The last fault's message.
        self.last_fault = ""

    def wait(self) -> float:
        """Seconds for which nothing is sent; 0 where this request may be."""
        if not self._count:
            return 0.0
        with self._lock:
            now = self._clock()
            if self._open_until is None:
                return 0.0
            if now < self._open_until:
                return self._open_until - now
            self._open_until = now + self._cooldown
            return 0.0

    def record_success(self) -> None:
        """The endpoint answered: close the circuit."""
        if self._count:
            with self._lock:
                self._count, self._open_until = 0, None

    def record_failure(self, error: Llama4Error) -> None:
        """Count a fault; an error that says nothing of the endpoint's health closes the circuit as an answer does."""
        if not is_fault(error):
            if isinstance(error, APIError | ContextLengthError | ContentFilteredError):
                self.record_success()
            return
        with self._lock:
            now = self._clock()
            if not self._count:
                self._first_fault_at = now
            self._count += 1
            self.last_fault = error.message
            if self._count >= self._faults and now - self._first_fault_at >= self._span:
                self._open_until = now + self._cooldown
