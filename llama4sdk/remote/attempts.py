"""One request's tries: what was done, and what is done next. Free of I/O."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import (
    APIConnectionError,
    APIError,
    Llama4Error,
    OverloadedError,
    StreamInterruptedError,
)
from llama4sdk.events import Attempt, Finish, Usage
from llama4sdk.remote.clock import Clock
from llama4sdk.remote.redaction import conceal
from llama4sdk.remote.retry import CircuitBreaker, TokenBucket, delay

__all__ = ["Health", "Tries"]

logger = logging.getLogger("llama4sdk")


class Health:
    """What all requests of one engine know of its endpoint."""

    def __init__(self) -> None:
        self.bucket = TokenBucket()
        self.breaker = CircuitBreaker(time.monotonic)


class Tries:
    """Told of each step of one request; says what follows from it."""

    def __init__(
        self, backend: str, model: str, endpoint: Endpoint, health: Health, secrets: Callable[[], Sequence[str]]
    ) -> None:
        self.clock = Clock(endpoint.timeouts)
        self.remedies: frozenset[str] = frozenset()
        self._backend = backend
        self._model = model
        self._endpoint = endpoint
        self._health = health
        self._secrets = secrets
        self._records: list[Attempt] = []
        self._retries = 0
        self._begun = 0.0
        self._answered: float | None = None
        self._refused: OverloadedError | None = None

    def begin(self) -> None:
        """Another try. Raises OverloadedError where the endpoint has failed so often that it is left alone."""
        self._begun = time.monotonic()
        wait = self._health.breaker.wait()
        if wait > 0:
            self._refused = OverloadedError(
                f"'{self._backend}' only failed of late, and is left alone for {wait:.0f} seconds. "
                f"{self._health.breaker.told}".rstrip(),
                backend=self._backend,
                retry_after=wait,
                hint="Wait, or use another endpoint.",
            )
            raise self._refused

    def answered(self) -> None:
        """An event of the answer is here: from now on nothing is asked again."""
        if self._answered is None:
            self._answered = time.monotonic()
            self._health.breaker.succeeded()
            self._health.bucket.give(retried=self._retries > 0)

    def finished(self, finish: Finish, cost: Callable[[Usage], float | None]) -> Finish:
        """The end of the answer, with how it was come by and what it costs."""
        self.answered()
        self._record(None, None)
        usage = finish.usage
        if usage.cost is None and (dollars := cost(usage)) is not None:
            usage = usage.model_copy(update={"cost": dollars})
        return Finish(reason=finish.reason, usage=usage, attempts=tuple(self._records))

    def conceal(self, error: Llama4Error) -> None:
        """Leave no secret in it; asked for now, since credentials may be newer than the request."""
        conceal(error, (*self._secrets(), *self._endpoint.secrets()))

    def failed(self, error: Llama4Error, remedy: str | None) -> float:
        """Seconds until the next try. Raises the error where there is none."""
        if error is not self._refused:
            self._health.breaker.failed(error)
        if self._answered is not None:
            self._record(error, None)
            raise self._interrupted(error)
        if remedy is not None and remedy not in self.remedies:
            self.remedies |= {remedy}
            self._record(error, 0.0)
            return 0.0
        wait = delay(error, self._retries, self._endpoint.retry, random.random())  # noqa: S311 - no secret is drawn
        if wait is None or wait >= self.clock.remaining or not self._health.bucket.take():
            self._record(error, None)
            raise self._with_attempts(error)
        self._retries += 1
        self._record(error, wait)
        return wait

    def _record(self, error: Llama4Error | None, wait: float | None) -> None:
        end = self._answered or time.monotonic()
        attempt = Attempt(
            backend=self._backend,
            model=self._model,
            error=None if error is None else f"{type(error).__name__}: {error.message}",
            seconds=max(0.0, end - self._begun),
            wait=wait,
        )
        self._records.append(attempt)
        if self._endpoint.on_attempt is not None:
            try:
                self._endpoint.on_attempt(attempt)
            except Exception:
                logger.exception("The endpoint's on_attempt failed.")

    def _interrupted(self, error: Llama4Error) -> Llama4Error:
        """A connection that breaks within an answer is an interrupted answer."""
        if not isinstance(error, APIConnectionError):
            return self._with_attempts(error)
        broken = StreamInterruptedError(
            f"The answer from '{self._backend}' was cut off. {error.message}",
            hint="What had arrived is in the error's .partial. Asking again starts a new answer.",
        )
        broken.__cause__ = error
        return broken

    def _with_attempts(self, error: Llama4Error) -> Llama4Error:
        if isinstance(error, APIError):
            error.attempts = tuple(self._records)
        return error
