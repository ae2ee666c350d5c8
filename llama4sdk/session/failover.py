"""The order in which deployments are asked for one request, and the record of all attempts. Does no I/O."""

from __future__ import annotations

import copy
import time
from typing import Final

from llama4sdk._text import error_text
from llama4sdk.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BackendError,
    ClientClosedError,
    DownloadError,
    Llama4Error,
    ModelRetiredError,
    NoBackendError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    StreamInterruptedError,
)
from llama4sdk.events import Attempt

DEPLOYMENT_ERRORS: Final = (
    APIConnectionError,
    APITimeoutError,
    OverloadedError,
    RateLimitError,
    ModelRetiredError,
    NoBackendError,
    BackendError,
    DownloadError,
    StreamInterruptedError,
)
CREDENTIAL_ERRORS: Final = (AuthenticationError, PermissionDeniedError)


def may_succeed_elsewhere(error: Llama4Error) -> bool:
    """Whether the deployment is at fault rather than the request. A wrong key is neither: it must be corrected."""
    if isinstance(error, APIError) and not isinstance(error, CREDENTIAL_ERRORS):
        return isinstance(error, DEPLOYMENT_ERRORS) or error.retryable or (error.status or 0) >= 500
    return isinstance(error, DEPLOYMENT_ERRORS)


class Failover:
    """One request's position in a list of deployments: ``index`` is the number of the current one, from 0.

    ``answered`` says that an answer has begun, after which no other deployment is asked.
    """

    def __init__(self, count: int) -> None:
        """``count`` is the number of deployments."""
        self.index = 0
        self.answered = False
        self._count = count
        self._failures: list[Attempt] = []
        self._first_error: Llama4Error | None = None
        self._first_failures = 0
        self._sent = False
        self._started = time.monotonic()
        self._ended: float | None = None

    def mark_sent(self) -> None:
        """Record that the request is sent now."""
        self._sent, self._started = True, time.monotonic()

    def mark_answered(self) -> None:
        """Record that the answer begins now."""
        self.answered, self._ended = True, time.monotonic()

    def attempts(self, own: tuple[Attempt, ...], backend: str, model: str) -> tuple[Attempt, ...]:
        """All attempts of a request that was answered by this backend and model, whose own attempts are ``own``."""
        if not self._failures:
            return own
        return (*self._failures, *(own or (self._attempt(None, backend, model),)))

    def fail(self, error: Llama4Error, backend: str, model: str) -> None:
        """Move to the next deployment after this one failed. Raises where there is none, or where none would help.

        When every deployment has failed, the first one's error is raised.
        """
        self._failures += error.attempts or (self._attempt(error, backend, model),)
        if self.answered or self._count == 1:
            raise error
        if not self._may_continue(error):
            raise self._with_attempts(error) from error
        if self._first_error is None:
            self._first_error, self._first_failures = error, len(self._failures)
        if self.index + 1 == self._count:
            raise self._with_attempts(self._first_error) from self._first_error
        self.index, self._sent, self._started = self.index + 1, False, time.monotonic()

    def _may_continue(self, error: Llama4Error) -> bool:
        """Whether to ask the next one; a fallback to which the request could not even be sent is passed over."""
        passed_over = self.index > 0 and not self._sent and not isinstance(error, ClientClosedError)
        return passed_over or may_succeed_elsewhere(error)

    def _attempt(self, error: Llama4Error | None, backend: str, model: str) -> Attempt:
        text = None if error is None else error_text(error)
        seconds = max(0.0, (self._ended or time.monotonic()) - self._started)
        return Attempt(backend=backend, model=model, error=text, seconds=seconds)

    def _with_attempts(self, error: Llama4Error) -> Llama4Error:
        """A copy of the error with all attempts, because a backend may raise one object several times."""
        copied = copy.copy(error)
        copied.attempts = tuple(self._failures)
        others = {f"'{attempt.backend}': {attempt.error}" for attempt in self._failures[self._first_failures :]}
        if others and error is self._first_error:
            failed = f"The fallbacks failed as well: {'; '.join(sorted(others))}"
            copied.hint = f"{error.hint} {failed}" if error.hint else failed
        return copied
