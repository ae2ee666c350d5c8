"""Reading this machine: each reader is guarded, has a deadline, and changes nothing."""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from llama4sdk import settings
from llama4sdk.hardware import Hardware
from llama4sdk.probe import amd, apple, cpu, disk, memory, nvidia, software

__all__ = ["probe"]

T = TypeVar("T")


def probe(*, deadline: float = 2.0) -> Hardware:
    """Describe this machine as it is now.

    Never raises, takes at most ``deadline`` seconds, and says what it could not read. All is read at once, so that one
    thing that hangs costs no other its time.
    """
    until = time.monotonic() + deadline
    gpus = _Reader("GPUs through NVML", nvidia.read, nvidia.NVIDIA_ABSENT)
    radeons = _Reader("AMD GPUs", amd.read, amd.AMD_ABSENT)
    ram = _Reader("memory", memory.read, memory.Memory())
    processor = _Reader("the processor", cpu.read, cpu.unknown())
    macs = _Reader("Apple's GPU", lambda: apple.read(ram.result(until).free), apple.APPLE_ABSENT)
    space = _Reader("the disk", lambda: disk.read(settings.home()), disk.DISK_UNKNOWN)
    libraries = _Reader("installed libraries", software.runtimes, software.NO_RUNTIMES)
    keys = _Reader("credentials", software.credentials, software.NO_CREDENTIALS)
    cards, other, room, store = gpus.result(until), radeons.result(until), ram.result(until), space.result(until)
    readers = (gpus, radeons, ram, processor, macs, space, libraries, keys)
    return Hardware(
        system=f"{platform.system()} {platform.machine()}",
        cpu=processor.result(until),
        total_memory=room.total,
        free_memory=room.free,
        installed_memory=room.installed if room.installed > room.total else None,
        free_swap=room.swap,
        devices=(*cards.devices, *other.devices, *macs.result(until)),
        links=(*cards.links, *other.links),
        hidden_devices=(*cards.hidden, *other.hidden),
        driver=cards.driver,
        cuda=cards.cuda,
        disk_free=store.free,
        disk_kind=store.kind,
        runtimes=libraries.result(until),
        credentials=keys.result(until),
        problems=(*cards.problems, *(problem for reader in readers if (problem := reader.problem(until)))),
    )


class _Reader(Generic[T]):
    """Runs in a thread that may be left behind; a hung driver must not hang its caller."""

    def __init__(self, what: str, read: Callable[[], T], fallback: T) -> None:
        self._what = what
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
        cause = f"{type(self._fault).__name__}: {self._fault}" if self._fault else "it did not answer in time"
        return f"Could not read {self._what}: {cause}."

    def _run(self) -> None:
        try:
            self._outcome.append(self._read())
        except Exception as error:  # noqa: BLE001 - a probe reports, it never raises
            self._fault = error
