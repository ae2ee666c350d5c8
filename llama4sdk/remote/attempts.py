"""The attempts of one request: what happened, and what follows from it. Free of I/O."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import TypeAlias

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIConnectionError, APIError, Llama4Error, OverloadedError, StreamInterruptedError
from llama4sdk.events import Attempt, Finish, Usage
from llama4sdk.remote.deadlines import Deadlines
from llama4sdk.remote.dialect import Dialect
from llama4sdk.remote.redaction import conceal
from llama4sdk.remote.retry import CircuitBreaker, TokenBucket, delay

Report: TypeAlias = Callable[[Attempt], None]


class EndpointHealth:
    """The health of an endpoint, shared by all requests of one engine."""

    def __init__(self) -> None:
        self.bucket = TokenBucket()
        self.breaker = CircuitBreaker(time.monotonic)


class AttemptLoop:
    """Records each step of one request, and decides whether and when it is sent again. Made in an event loop."""

    def __init__(
        self, dialect: Dialect, model: str, endpoint: Endpoint, health: EndpointHealth, report: Report | None
    ) -> None:
        """``report`` is called with every attempt as soon as it is over."""
        self.deadlines = Deadlines(endpoint.timeouts, asyncio.get_running_loop().time)
        self.remedies: frozenset[str] = frozenset()
        self._dialect = dialect
        self._backend = dialect.backend
        self._model = model
        self._endpoint = endpoint
        self._health = health
        self._report = report
        self._attempts: list[Attempt] = []
        self._retries = 0
        self._began_at = 0.0
        self._answered_at: float | None = None
        self._refusal: OverloadedError | None = None

    def begin(self) -> None:
        """Begin another attempt. Raises OverloadedError where the endpoint failed so often that it is left alone."""
        self._began_at = time.monotonic()
        wait = self._health.breaker.wait()
        if wait > 0:
            self._refusal = OverloadedError(
                f"'{self._backend}' only failed of late, and is left alone for {wait:.0f} seconds. "
                f"{self._health.breaker.last_fault}".rstrip(),
                backend=self._backend,
                retry_after=wait,
                hint="Wait, or use another endpoint.",
            )
            raise self._refusal

    def record_answer(self) -> None:
        """Note that an event of the answer is here: from now on nothing is sent again."""
        if self._answered_at is None:
            self._answered_at = time.monotonic()
            self._health.breaker.record_success()
            self._health.bucket.give(retried=self._retries > 0)

    def complete(self, finish: Finish, cost: Callable[[Usage], float | None]) -> Finish:
        """The end of the answer, with its attempts and its price."""
        self.record_answer()
        self._record(None, None)
        usage = finish.usage
        if usage.cost is None and (dollars := cost(usage)) is not None:
            usage = usage.model_copy(update={"cost": dollars})
        return Finish(reason=finish.reason, usage=usage, attempts=tuple(self._attempts))

    def conceal(self, error: Llama4Error) -> None:
        """Take every secret out of the error; those of this moment, since credentials may be newer than the request."""
        conceal(error, (*self._dialect.secrets(), *self._endpoint.secrets()))

    def record_failure(self, error: Llama4Error) -> float:
        """Seconds until the next attempt. Raises the error where there is none."""
        remedy = self._dialect.remedy(error)
        if error is not self._refusal:
            self._health.breaker.record_failure(error)
        if self._answered_at is not None:
            self._record(error, None)
            raise self._interruption(error)
        if remedy is not None and remedy not in self.remedies:
            self.remedies |= {remedy}
            self._record(error, 0.0)
            return 0.0
        wait = delay(error, self._retries, self._endpoint.retry, random.random())  # noqa: S311 - no secret is drawn
        if wait is None or wait >= self.deadlines.remaining or not self._health.bucket.take():
            self._record(error, None)
            raise self._with_attempts(error)
        self._retries += 1
        self._record(error, wait)
        return wait

    def _record(self, error: Llama4Error | None, wait: float | None) -> None:
        end = self._answered_at or time.monotonic()
        attempt = Attempt(
            backend=self._backend,
            model=self._model,
            error=None if error is None else f"{type(error).__name__}: {error.message}",
            seconds=max(0.0, end - self._began_at),
            wait=wait,
        )
        self._attempts.append(attempt)
        if self._report is not None:
            self._report(attempt)

    def _interruption(self, error: Llama4Error) -> Llama4Error:
        """A connection that breaks within an answer is an interrupted answer."""
        if not isinstance(error, APIConnectionError):
            return self._with_attempts(error)
        interruption = StreamInterruptedError(
            f"The answer from '{self._backend}' was cut off. {error.message}",
            hint="What had arrived is in the error's .partial. Asking again starts a new answer.",
        )
        interruption.__cause__ = error
        return interruption

    def _with_attempts(self, error: Llama4Error) -> Llama4Error:
        if isinstance(error, APIError):
            error.attempts = tuple(self._attempts)
        return error
