"""The memory an engine takes, as the system or the device counts it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llama4sdk._text import gb
from llama4sdk.errors import DeviceMemoryError
from llama4sdk.results import MEMORY_TOLERANCE, Memory

if TYPE_CHECKING:
    from llama4sdk.plan import Plan

logger = logging.getLogger("llama4sdk")

#: Seconds between two measurements while long work is done.
MEASURE_SECONDS: Final = 0.005

#: Linux' own count of this process's pages.
STATM: Final = Path("/proc/self/statm")


def own_memory() -> int | None:
    """Bytes of memory that are this process's alone, pages of mapped files not among them; ``None`` but on Linux."""
    try:
        fields = STATM.read_bytes().split()
    except OSError:
        return None
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


def require_room(plan: Plan, have: int) -> None:
    """Raise DeviceMemoryError where less is free by now than the plan takes, before the system ends the process."""
    device = plan.placement.devices[0]
    need = plan.memory.get(device, 0) - plan.breakdown.get(device, {}).get("runtime", 0)  # that is taken already
    if need > have:
        raise DeviceMemoryError(
            f"Loading takes {gb(need)} on {device}, where {gb(have)} are free now.",
            need=need,
            have=have,
            hint="Free some memory, or make a new plan.",
        )


class MemoryMeter:
    """Measures the peak of an engine's memory since the meter was made.

    On an accelerator it is the most that ``allocated`` reports, in bytes. On a processor it is how much the process
    grew while the engine was at work. Growth at other times, between two pieces of an answer too, is the program's own
    and not counted; growth of other threads during the engine's work cannot be told apart and is counted.

    Warns once when the plan is exceeded by more than ``MEMORY_TOLERANCE``.
    """

    def __init__(self, plan: Plan, allocated: Callable[[], int] | None = None) -> None:
        self._predicted = plan.memory
        self._device = plan.placement.devices[0]
        self._allocated = allocated
        self._lock = threading.Lock()
        self._at_work = 0
        self._others: int | None = None  # bytes of the process that are not the engine's
        self._own = 0  # bytes that were the engine's when it last came to rest
        self._peak = 0
        self._warned = False

    @property
    def memory(self) -> Memory:
        """The prediction, and the peak so far."""
        return Memory(predicted=self._predicted, measured={self._device: self._peak} if self._peak else {})

    @contextmanager
    def working(self) -> Iterator[None]:
        """Surround short work of the engine, and measure after it. Takes microseconds."""
        self._begin()
        try:
            yield
        finally:
            self._end()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Surround long work of the engine: measure all the time, then report."""
        with self.working():
            if self._others is None:
                yield
            else:
                yield from self._watched()
        self.report()

    def report(self) -> None:
        """Warn where the plan is exceeded, unless that was done before."""
        self._measure_device()
        excess = self.memory.excess
        if excess is not None and not self._warned:
            self._warned = True
            logger.warning("More memory was taken than planned, by over %.0f%%: %s.", MEMORY_TOLERANCE * 100, excess)

    def _begin(self) -> None:
        with self._lock:
            if self._at_work == 0 and self._device == "cpu" and (now := own_memory()) is not None:
                self._others = now - self._own
            self._at_work += 1

    def _end(self) -> None:
        with self._lock:
            self._at_work -= 1
            self._own = max(0, self._measure())

    def _watched(self) -> Iterator[None]:
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(done,), name="llama4sdk-memory", daemon=True)
        watch.start()
        try:
            yield
        finally:
            done.set()
            watch.join()

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(MEASURE_SECONDS):
            with self._lock:
                self._measure()

    def _measure(self) -> int:
        """Update the peak, and give the engine's bytes now; 0 where they cannot be told."""
        now = own_memory() if self._others is not None else None
        if now is None or self._others is None:
            return 0
        self._peak = max(self._peak, now - self._others)
        return now - self._others

    def _measure_device(self) -> None:
        if self._device != "cpu" and self._allocated is not None:
            self._peak = self._allocated()
