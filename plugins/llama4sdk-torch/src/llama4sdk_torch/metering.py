"""The memory an engine takes, as the system or the device counts it. Needs no torch until a device is asked."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from llama4sdk.memory import BAND, Memory
from llama4sdk.planning.sizing import RUNTIME

if TYPE_CHECKING:
    from llama4sdk.planning.plan import Plan

__all__ = ["Meter", "own_memory"]

logger = logging.getLogger("llama4sdk")

INTERVAL: Final = 0.005
"""Seconds between two looks while long work is done."""

STATM: Final = Path("/proc/self/statm")


def own_memory() -> int | None:
    """Bytes of memory that are this process's alone, pages of mapped files not among them; ``None`` but on Linux."""
    try:
        fields = STATM.read_bytes().split()
    except OSError:
        return None
    return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")


class Meter:
    """The peak since it was made. On a processor that is the growth of the whole process, looked at now and then:
    what else the program did meanwhile is in it. On CUDA it is what torch allocated, and the context as planned.

    Says once, as a warning, when the plan is exceeded by more than ``BAND``.
    """

    def __init__(self, plan: Plan) -> None:
        self._predicted = plan.memory
        self._device = plan.placement.devices[0]
        self._before = own_memory()
        self._peak = 0
        self._warned = False

    @property
    def memory(self) -> Memory:
        """What was predicted and seen so far."""
        return Memory(predicted=self._predicted, measured={self._device: self._peak} if self._peak else {})

    def look(self) -> None:
        """Take the present state into the peak. Microseconds."""
        if self._device != "cpu":
            return
        now = own_memory()
        if now is not None and self._before is not None:
            self._peak = max(self._peak, now - self._before)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look all the time while something long is done, then say what there is to say."""
        if self._device == "cpu" and self._before is not None:
            done = threading.Event()
            watch = threading.Thread(target=self._watch, args=(done,), name="llama4sdk-memory", daemon=True)
            watch.start()
            try:
                yield
            finally:
                done.set()
                watch.join()
        else:
            yield
        self.report()

    def report(self) -> None:
        """Look once more; warn where the plan is exceeded, unless that was said before."""
        self.look()
        self._ask_device()
        excess = self.memory.excess
        if excess is not None and not self._warned:
            self._warned = True
            logger.warning("More memory was taken than planned, by over %.0f%%: %s.", BAND * 100, excess)

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(INTERVAL):
            self.look()

    def _ask_device(self) -> None:
        if self._device != "cpu":
            import torch

            device = torch.device(self._device.replace("rocm", "cuda"))
            self._peak = torch.cuda.max_memory_allocated(device) + RUNTIME["accelerator"]
