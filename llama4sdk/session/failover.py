"""One request's way over several places: what was tried, and where it is asked next. Free of I/O."""

from __future__ import annotations

import copy
import time
from typing import Final

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
from llama4sdk.events import Attempt, Finish

__all__ = ["Failover", "may_work_elsewhere"]

OF_THE_PLACE: Final = (
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
NEVER: Final = (AuthenticationError, PermissionDeniedError)


def may_work_elsewhere(error: Llama4Error) -> bool:
    """Whether an error is the place's and not the request's. A wrong key is a mistake to mend, and no such error."""
    if isinstance(error, APIError) and not isinstance(error, NEVER):
        return isinstance(error, OF_THE_PLACE) or error.retryable or (error.status or 0) >= 500
    return isinstance(error, OF_THE_PLACE)


class Failover:
    """Told of each step; says what follows from it. ``place`` is the number of the one it is at."""

    def __init__(self, places: int) -> None:
        self.place = 0
        self._places = places
        self._records: list[Attempt] = []
        self._own = 0
        self._first: Llama4Error | None = None
        self._where = ("", "")
        self._begun = 0.0
        self._asked = False
        self._answered: float | None = None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """What failed so far."""
        return tuple(self._records)

    @property
    def where(self) -> tuple[str, str]:
        """The backend and the model that are asked, or would be."""
        return self._where

    @property
    def answered(self) -> bool:
        """Whether an answer has begun: from now on no other place is asked."""
        return self._answered is not None

    def arrived(self, backend: str, model: str) -> None:
        """It is known who would answer here."""
        self._where = (backend, model)
        self._begun = time.monotonic()

    def ask(self) -> None:
        """The request goes out now."""
        self._begun, self._asked = time.monotonic(), True

    def answer(self) -> None:
        """The answer's first event is here."""
        if self._answered is None:
            self._answered = time.monotonic()

    def finished(self, finish: Finish) -> Finish:
        """The answer's end, with all that was tried before, if anything was."""
        if not self._records:
            return finish
        attempts = (*self._records, *(finish.attempts or (self.succeeded(),)))
        return finish.model_copy(update={"attempts": attempts})

    def succeeded(self) -> Attempt:
        """The try that answered."""
        return self._attempt(None)

    def failed(self, error: Llama4Error) -> None:
        """The next place is to be asked. Raises an error where there is none, or where none would help.

        When every place has failed, that is the first one's. A fallback that cannot be asked at all is passed over.
        """
        self._records += error.attempts or (self._attempt(error),)
        if self.answered or self._places == 1:
            raise error
        passed_over = self.place > 0 and not self._asked and not isinstance(error, ClientClosedError)
        if not passed_over and not may_work_elsewhere(error):
            raise self._told(error) from error
        if self._first is None:
            self._first, self._own = error, len(self._records)
        if self.place + 1 == self._places:
            raise self._told(self._first) from self._first
        self.place, self._asked = self.place + 1, False

    def _attempt(self, error: Llama4Error | None) -> Attempt:
        backend, model = self._where
        end = self._answered or time.monotonic()
        told = None if error is None else f"{type(error).__name__}: {error.message}"
        return Attempt(backend=backend, model=model, error=told, seconds=max(0.0, end - self._begun))

    def _told(self, error: Llama4Error) -> Llama4Error:
        """The same error with all that was tried; a copy, because a backend may raise one object twice."""
        told = copy.copy(error)
        told.attempts = self.attempts
        others = {f"'{attempt.backend}': {attempt.error}" for attempt in self._records[self._own :]}
        if others and error is self._first:
            failed = f"The fallbacks failed as well: {'; '.join(sorted(others))}"
            told.hint = f"{error.hint} {failed}" if error.hint else failed
        return told
