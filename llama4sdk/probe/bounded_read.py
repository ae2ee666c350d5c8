"""Reading something that may hang, fail or take long, at no more than the cost of a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from llama4sdk.errors import Llama4Error

__all__ = ["Reader"]

T = TypeVar("T")


class Reader(Generic[T]):
    """Runs in a thread that may be left behind; a hung driver must not hang its caller."""

    def __init__(self, what: str, read: Callable[[], T], fallback: T) -> None:
        self.what = what
        self.seconds: float | None = None
        """What it took; ``None`` while it has not answered."""
        self._read = read
        self._fallback = fallback
        self._outcome: list[T] = []
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"llama4sdk-probe-{what}", daemon=True)
        self._thread.start()

    def result(self, until: float) -> T:
        """What was read, or the fallback when that failed or is not there at the monotonic time ``until``."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return self._outcome[0] if self._outcome else self._fallback

    def problem(self, until: float) -> str | None:
        """Why there is no result."""
        self.result(until)
        if self._outcome:
            return None
        return f"Could not read {self.what}: {self._cause()}."

    def _cause(self) -> str:
        if isinstance(self._fault, Llama4Error):
            return self._fault.message
        return f"{type(self._fault).__name__}: {self._fault}" if self._fault else "it did not answer in time"

    def _run(self) -> None:
        began = time.monotonic()
        try:
            self._outcome.append(self._read())
        except Exception as error:  # noqa: BLE001 - a probe reports, it never raises
            self._fault = error
        self.seconds = time.monotonic() - began
