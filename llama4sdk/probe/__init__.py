"""Reading this machine: each reader is guarded, has a deadline, and changes nothing."""

from __future__ import annotations

import platform
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from llama4sdk import settings
from llama4sdk.hardware import Hardware
from llama4sdk.probe import cpu, memory, nvidia

__all__ = ["probe"]

T = TypeVar("T")


def probe(*, deadline: float = 2.0) -> Hardware:
    """Describe this machine as it is now.

    Never raises, takes at most ``deadline`` seconds, and says what it could not read.
    """
    until = time.monotonic() + deadline
    problems: list[str] = []
    gpus = _read("GPUs through NVML", nvidia.read, nvidia.NVIDIA_ABSENT, until, problems)
    ram = _read("memory", memory.read, memory.Memory(total=0, free=0), until, problems)
    processor = _read("the processor", cpu.read, cpu.unknown(), until, problems)
    disk = _read("free disk space", _disk_free, None, until, problems)
    return Hardware(
        system=f"{platform.system()} {platform.machine()}",
        cpu=processor,
        total_memory=ram.total,
        free_memory=ram.free,
        devices=gpus.devices,
        driver=gpus.driver,
        disk_free=disk,
        problems=tuple(problems),
    )


def _read(what: str, reader: Callable[[], T], fallback: T, until: float, problems: list[str]) -> T:
    """Run one reader in a thread that may be left behind; a hung driver must not hang its caller."""
    outcome: list[T] = []
    faults: list[Exception] = []

    def run() -> None:
        try:
            outcome.append(reader())
        except Exception as error:  # noqa: BLE001 - a probe reports, it never raises
            faults.append(error)

    thread = threading.Thread(target=run, name=f"llama4sdk-probe-{what}", daemon=True)
    thread.start()
    thread.join(max(0.0, until - time.monotonic()))
    if outcome:
        return outcome[0]
    cause = f"{type(faults[0]).__name__}: {faults[0]}" if faults else "it did not answer in time"
    problems.append(f"Could not read {what}: {cause}.")
    return fallback


def _disk_free() -> int:
    path = Path(settings.home())
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
