"""Asks a server what it serves while a plan is made: briefly, once, with answers that hold for seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from llama4sdk.endpoint import Endpoint, RetryPolicy, Timeouts
from llama4sdk.errors import Llama4Error

T = TypeVar("T")


def impatient(endpoint: Endpoint, seconds: float) -> Endpoint:
    """Return the endpoint for one quick question: no retries, no reports of attempts, ``seconds`` at most."""
    limits = Timeouts(connect=seconds, first_byte=seconds, between=seconds, total=seconds)
    return endpoint.model_copy(update={"timeouts": limits, "retry": RetryPolicy(retries=0), "on_attempt": None})


class RecentAnswers(Generic[T]):
    """A cache whose entries expire after ``seconds``. Safe to use from several threads.

    Errors are remembered too, so that a server that does not answer is waited for only once.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._entries: dict[Hashable, tuple[float, T | Llama4Error]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, ask: Callable[[], T]) -> T:
        """Return the answer for this key, by ``ask`` where there is no recent one. Raises the error it was."""
        with self._lock:
            expiry, answer = self._entries.get(key, (0.0, None))
        if answer is None or time.monotonic() > expiry:
            try:
                answer = ask()
            except Llama4Error as error:
                answer = error
            with self._lock:
                self._entries[key] = (time.monotonic() + self._seconds, answer)
        if isinstance(answer, Llama4Error):
            raise answer
        return answer
