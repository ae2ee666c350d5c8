"""Detect this machine's hardware and software: every reader is read-only and has a deadline."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from llama4sdk import settings
from llama4sdk.hardware import Device, Hardware, Runtime
from llama4sdk.probe import amd, apple, cpu, disk, measurements, memory, nvidia, software
from llama4sdk.probe.bounded_read import Reader
from llama4sdk.probe.gpus import Gpus
from llama4sdk.probe.sanity import plausible_cpu, plausible_devices, plausible_disk, plausible_links, plausible_memory

__all__ = ["free_memory", "probe", "timed_probe"]

#: For all readers together; they usually take some ten milliseconds.
DEADLINE_SECONDS: Final = 1.0

#: For GPU drivers, which may have to wake each card from sleep first.
DRIVER_DEADLINE_SECONDS: Final = 1.5


def probe(*, deadline: float | None = None) -> Hardware:
    """Describe this machine as it is now.

    Never raises and takes at most ``deadline`` seconds (default 1.5). Values that could not be read, or are not
    plausible, are left out and named in ``Hardware.problems``. Readers run in parallel: one that hangs delays none.
    """
    return timed_probe(deadline=deadline)[0]


def timed_probe(*, deadline: float | None = None) -> tuple[Hardware, Mapping[str, float | None]]:
    """Like ``probe``, with the seconds that each reader took; ``None`` for one that did not answer in time."""
    start = time.monotonic()
    until = start + (DEADLINE_SECONDS if deadline is None else deadline)
    readers = _Readers(until)
    drivers_until = start + (DRIVER_DEADLINE_SECONDS if deadline is None else deadline)
    nvidia_gpus, amd_gpus = readers.nvidia.result(drivers_until), readers.amd.result(drivers_until)
    problems = [*nvidia_gpus.problems, *(text for reader in readers.all if (text := reader.problem(until)))]
    ram = plausible_memory(readers.memory.result(until), problems)
    weights_disk = plausible_disk(readers.disk.result(until), problems)
    devices = plausible_devices((*nvidia_gpus.devices, *amd_gpus.devices, *readers.apple.result(until)), problems)
    hardware = Hardware(
        system=f"{platform.system()} {platform.machine()}",
        cpu=plausible_cpu(readers.cpu.result(until), problems),
        total_memory=ram.total,
        free_memory=ram.free,
        installed_memory=ram.installed if ram.installed > ram.total else None,
        free_swap=ram.swap,
        total_swap=ram.total_swap,
        devices=devices,
        links=plausible_links((*nvidia_gpus.links, *amd_gpus.links), devices),
        hidden_devices=(*nvidia_gpus.hidden, *amd_gpus.hidden),
        driver=nvidia_gpus.driver,
        cuda=nvidia_gpus.cuda,
        disk_free=weights_disk.free,
        disk_kind=weights_disk.kind,
        runtimes=readers.runtimes.result(until),
        credentials=readers.credentials.result(until),
        problems=tuple(problems),
    )
    hardware = measurements.apply_measurements(hardware, readers.measured.result(until))
    return hardware, {reader.name: reader.seconds for reader in readers.all}


def free_memory(device: str) -> int:
    """Free bytes of one device, or of the machine's memory (``cpu``), for which nothing else is read."""
    return memory.read().free if device == "cpu" else probe().free(device)


class _Readers:
    """All readers, started; ``all`` lists them in the order of their problems."""

    def __init__(self, until: float) -> None:
        self.nvidia = Reader("GPUs through NVML", nvidia.read, Gpus())
        self.amd = Reader("AMD GPUs", amd.read, Gpus())
        self.memory = Reader("memory", memory.read, memory.Memory())
        self.cpu = Reader("the processor", cpu.read, cpu.unknown())
        self.apple = Reader("Apple's GPU", lambda: apple.read(self.memory.result(until).free), tuple[Device, ...]())
        self.disk = Reader("the disk", lambda: disk.read(settings.home()), disk.Disk())
        self.runtimes = Reader("installed libraries", lambda: tuple(software.runtimes()), tuple[Runtime, ...]())
        self.credentials = Reader("credentials", software.credentials, tuple[str, ...]())
        self.measured = Reader("what was measured", lambda: measurements.load(settings.home()), None)
        self.all: Sequence[Reader[Any]] = tuple(vars(self).values())
