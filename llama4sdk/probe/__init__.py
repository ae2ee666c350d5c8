"""Reading this machine: each reader is guarded, has a deadline, and changes nothing."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from typing import Final

from llama4sdk import settings
from llama4sdk.hardware import Hardware
from llama4sdk.probe import amd, apple, cpu, disk, measurements, memory, nvidia, software
from llama4sdk.probe.bounded_read import Reader
from llama4sdk.probe.sanity import (
    plausible_cpu,
    plausible_devices,
    plausible_disk,
    plausible_links,
    plausible_memory,
)

__all__ = ["probe", "timed_probe"]

DEADLINE: Final = 1.0
"""Seconds for all readers together; they take some ten milliseconds."""

DRIVER_DEADLINE: Final = 1.5
"""Seconds for the drivers of GPUs: one that sleeps between uses takes its time to wake each of its cards."""


def probe(*, deadline: float | None = None) -> Hardware:
    """Describe this machine as it is now.

    Never raises, takes at most ``deadline`` seconds (1.5 unless given), and says what it could not read, or believe.
    All is read at once, so that one thing that hangs costs no other its time.
    """
    return timed_probe(deadline=deadline)[0]


def timed_probe(*, deadline: float | None = None) -> tuple[Hardware, Mapping[str, float | None]]:
    """The same, and the seconds that each reader took; ``None`` for one that did not answer in time."""
    now = time.monotonic()
    until = now + (DEADLINE if deadline is None else deadline)
    late = now + (DRIVER_DEADLINE if deadline is None else deadline)
    gpus = Reader("GPUs through NVML", nvidia.read, nvidia.NVIDIA_ABSENT)
    radeons = Reader("AMD GPUs", amd.read, amd.AMD_ABSENT)
    ram = Reader("memory", memory.read, memory.Memory())
    processor = Reader("the processor", cpu.read, cpu.unknown())
    macs = Reader("Apple's GPU", lambda: apple.read(ram.result(until).free), apple.APPLE_ABSENT)
    space = Reader("the disk", lambda: disk.read(settings.home()), disk.DISK_UNKNOWN)
    libraries = Reader("installed libraries", software.runtimes, software.NO_RUNTIMES)
    keys = Reader("credentials", software.credentials, software.NO_CREDENTIALS)
    speeds = Reader("what was measured", lambda: measurements.load(settings.home()), None)
    cards, other = gpus.result(late), radeons.result(late)
    readers = (gpus, radeons, ram, processor, macs, space, libraries, keys, speeds)
    problems = [*cards.problems, *(problem for reader in readers if (problem := reader.problem(until)))]
    room, store = plausible_memory(ram.result(until), problems), plausible_disk(space.result(until), problems)
    devices = plausible_devices((*cards.devices, *other.devices, *macs.result(until)), problems)
    found = Hardware(
        system=f"{platform.system()} {platform.machine()}",
        cpu=plausible_cpu(processor.result(until), problems),
        total_memory=room.total,
        free_memory=room.free,
        installed_memory=room.installed if room.installed > room.total else None,
        free_swap=room.swap,
        total_swap=room.total_swap,
        devices=devices,
        links=plausible_links((*cards.links, *other.links), devices),
        hidden_devices=(*cards.hidden, *other.hidden),
        driver=cards.driver,
        cuda=cards.cuda,
        disk_free=store.free,
        disk_kind=store.kind,
        runtimes=libraries.result(until),
        credentials=keys.result(until),
        problems=tuple(problems),
    )
    return measurements.applied(found, speeds.result(until)), {reader.what: reader.seconds for reader in readers}
