"""Whether and when a request is sent again: pure, so time and chance are values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.endpoint import RetryPolicy
from llama4sdk.errors import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ContextLengthError,
    Llama4Error,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
)
from llama4sdk.remote.retry import CircuitBreaker, TokenBucket, delay, is_fault

BROKEN = APIConnectionError("broken", retryable=True)
BUSY = RateLimitError("busy", retryable=True, status=429)
CHANCE = st.floats(0, 1)


@given(st.integers(0, 30), st.integers(0, 20), CHANCE, st.floats(0.001, 100), st.sampled_from([BROKEN, BUSY]))
def test_waits_are_bounded(number: int, retries: int, chance: float, base: float, error: Llama4Error) -> None:
    """Never more tries than allowed, never longer than the longest, doubling at most."""
    policy = RetryPolicy(retries=retries, base=base, throttled=base)
    wait = delay(error, number, policy, chance)
    if number >= retries:
        assert wait is None
    else:
        assert wait is not None
        assert 0 <= wait <= min(policy.longest, base * 2**number)


@given(CHANCE, st.floats(0.0001, 1e6))
def test_what_the_endpoint_asks_for_is_kept_to(chance: float, asked: float) -> None:
    """Exactly, whatever chance says; or not at all, where it is longer than the caller would wait."""
    error = RateLimitError("busy", retryable=True, retry_after=asked)
    assert delay(error, 0, RetryPolicy(), chance) == (asked if asked <= RetryPolicy().longest_hint else None)


@pytest.mark.parametrize(
    "error", [AuthenticationError("no", status=401), ContextLengthError("long", limit=1, requested=2)]
)
def test_what_would_fail_again_is_not_repeated(error: Llama4Error) -> None:
    """However many tries are left."""
    assert delay(error, 0, RetryPolicy(retries=20), 0.5) is None


def test_timeouts_are_repeated_only_on_demand() -> None:
    """An answer that came too late was made, and may be billed; a connection or a 408 that was late was not."""
    asked = RetryPolicy(timeouts=True)
    for phase in ("first_byte", "between"):
        late = APITimeoutError("late", phase=phase)
        assert delay(late, 0, RetryPolicy(), 0.5) is None
        assert delay(late, 0, asked, 0.5) is not None
    assert delay(APITimeoutError("late", phase="total"), 0, asked, 0.5) is None
    assert delay(APITimeoutError("late", phase="connect", retryable=True), 0, RetryPolicy(), 0.5) is not None
    assert delay(APITimeoutError("408", phase="first_byte", retryable=True), 0, RetryPolicy(), 0.5) is not None
    assert delay(StreamInterruptedError("cut"), 0, RetryPolicy(), 0.5) is not None


def test_a_bucket_runs_dry_and_fills() -> None:
    """Retries cost, a success gives one back, and one that a retry brought gives back its cost."""
    bucket = TokenBucket(capacity=10, cost=5)
    assert [bucket.take(), bucket.take(), bucket.take()] == [True, True, False]
    for _ in range(4):
        bucket.give(retried=False)
    assert not bucket.take()
    bucket.give(retried=False)
    assert bucket.take()
    bucket.give(retried=True)
    assert bucket.take()
    for _ in range(100):
        bucket.give(retried=True)
    assert [bucket.take(), bucket.take(), bucket.take()] == [True, True, False]


class Time:
    """A clock that is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def broken(time: Time) -> CircuitBreaker:
    """A breaker that has opened."""
    breaker = CircuitBreaker(time, faults=3, span=2.0, cooldown=10.0)
    for _ in range(3):
        breaker.record_failure(BROKEN)
        time.now += 1
    assert breaker.wait() == 9
    return breaker


def test_a_breaker_lets_one_request_through_at_a_time() -> None:
    """After its rest one goes; if nothing is heard of it, the next goes a rest later."""
    time = Time()
    breaker = broken(time)
    time.now += 9
    assert breaker.wait() == 0
    assert breaker.wait() == 10
    time.now += 10
    assert breaker.wait() == 0


def test_a_breaker_opens_again_when_its_trial_fails() -> None:
    """For a whole rest, at once."""
    time = Time()
    breaker = broken(time)
    time.now += 9
    assert breaker.wait() == 0
    time.now += 4
    breaker.record_failure(BROKEN)
    assert breaker.wait() == 10


@pytest.mark.parametrize(
    "error", [None, AuthenticationError("no", status=401), ContextLengthError("x", limit=1, requested=2)]
)
def test_a_breaker_closes_with_any_answer(error: Llama4Error | None) -> None:
    """An error that says nothing of the endpoint's health is an answer too."""
    time = Time()
    breaker = broken(time)
    if error is None:
        breaker.record_success()
    else:
        breaker.record_failure(error)
    assert breaker.wait() == 0
    breaker.record_failure(BROKEN)
    assert breaker.wait() == 0


def test_many_faults_at_once_are_one() -> None:
    """Five hundred streams that break together do not close the way for the next."""
    breaker = CircuitBreaker(Time())
    for _ in range(500):
        breaker.record_failure(BROKEN)
    assert breaker.wait() == 0


FAULTS: list[tuple[Llama4Error, bool]] = [
    (BROKEN, True),
    (BUSY, False),
    (OverloadedError("full", status=503), True),
    (APIStatusError("hm", status=500), True),
    (APIStatusError("hm", status=400), False),
    (StreamInterruptedError("cut"), True),
    (APITimeoutError("late", phase="first_byte"), True),
    (APITimeoutError("late", phase="total"), False),
]


@pytest.mark.parametrize(("error", "fault"), FAULTS)
def test_what_speaks_against_an_endpoint(error: Llama4Error, fault: bool) -> None:
    """Its own failures do; wrong requests and impatient callers do not."""
    assert is_fault(error) is fault
