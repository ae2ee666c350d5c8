"""Run a function that may hang or fail in a thread, and wait for it no longer than a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from llama4sdk.errors import Llama4Error

T = TypeVar("T")


class Reader(Generic[T]):
    """Calls ``read`` in a daemon thread, which is left behind when it hangs."""

    def __init__(self, name: str, read: Callable[[], T], fallback: T) -> None:
        self.name = name
        #: How long ``read`` took; ``None`` while it has not returned.
        self.seconds: float | None = None
        self._read = read
        self._fallback = fallback
        self._values: list[T] = []
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"llama4sdk-probe-{name}", daemon=True)
        self._thread.start()

    def result(self, until: float) -> T:
        """The value read, or the fallback when reading failed or has not ended by the monotonic time ``until``."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return self._values[0] if self._values else self._fallback

    def problem(self, until: float) -> str | None:
        """A sentence saying why there is no result by the time ``until``; ``None`` when there is one."""
        self.result(until)
        if self._values:
            return None
        error = self._error
        cause = f"{type(error).__name__}: {error}" if error else "it did not answer in time"
        return f"Could not read {self.name}: {error.message if isinstance(error, Llama4Error) else cause}."

    def _run(self) -> None:
        start = time.monotonic()
        try:
            self._values.append(self._read())
        except Exception as error:  # noqa: BLE001 - a probe reports, it never raises
            self._error = error
        self.seconds = time.monotonic() - start
