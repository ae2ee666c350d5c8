"""Check values that drivers and kernels report: implausible ones are left out, with a sentence for the user. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from llama4sdk.hardware import MAX_CORES, MAX_DEVICES, MAX_DISK_BYTES, MAX_MEMORY_BYTES, Cpu, Device, Link
from llama4sdk.probe.disk import Disk
from llama4sdk.probe.memory import Memory

#: Plausible memory bandwidths of a device, in bytes per second; a lower one comes from a wrong clock.
MIN_BANDWIDTH: Final = 5 * 10**9
MAX_BANDWIDTH: Final = 10**14

Problems = list[str]


def plausible_memory(memory: Memory, problems: Problems) -> Memory:
    """The memory with implausible sizes as 0."""
    if not _is_plausible(memory.total, MAX_MEMORY_BYTES):
        problems.append(f"This machine claims {memory.total} bytes of memory: how much there is is not known.")
        return Memory()
    free = _free_part("This machine", memory.free, memory.total, problems)
    installed = memory.installed if _is_plausible(memory.installed, MAX_MEMORY_BYTES) else 0
    swap = int(memory.swap) if _is_plausible(memory.swap, MAX_MEMORY_BYTES) else 0
    total_swap = max(swap, int(memory.total_swap)) if _is_plausible(memory.total_swap, MAX_MEMORY_BYTES) else swap
    return Memory(total=int(memory.total), free=free, installed=int(installed), swap=swap, total_swap=total_swap)


def plausible_devices(devices: Iterable[Device], problems: Problems) -> tuple[Device, ...]:
    """The devices of plausible memory size, without their other implausible values."""
    plausible: list[Device] = []
    for device in devices:
        if not device.total_memory or not _is_plausible(device.total_memory, MAX_MEMORY_BYTES):
            problems.append(f"{device.id} claims {device.total_memory} bytes of memory: it is left out.")
        elif len(plausible) < MAX_DEVICES:
            plausible.append(_plausible_device(device, problems))
    return tuple(plausible)


def _plausible_device(device: Device, problems: Problems) -> Device:
    bandwidth, capability = device.memory_bandwidth or 0, device.compute_capability or ()
    changes = {
        "free_memory": _free_part(device.id, device.free_memory, device.total_memory, problems),
        "memory_bandwidth": bandwidth if MIN_BANDWIDTH <= bandwidth <= MAX_BANDWIDTH else None,
        "host_bandwidth": _plausible(device.host_bandwidth, MAX_MEMORY_BYTES) or None,
        "power_limit": _plausible(device.power_limit, MAX_MEMORY_BYTES),
        "compute_capability": capability
        if capability and all(_is_plausible(n, MAX_CORES) for n in capability)
        else None,
        "processes": _plausible(device.processes, MAX_MEMORY_BYTES) or 0,
    }
    return device.model_copy(update=changes)


def plausible_links(links: Iterable[Link], devices: Iterable[Device]) -> tuple[Link, ...]:
    """The links between these devices, without implausible bandwidths."""
    ids = {device.id for device in devices}
    return tuple(
        link.model_copy(update={"bandwidth": _plausible(link.bandwidth, MAX_MEMORY_BYTES) or None})
        for link in links
        if len({*link.devices} & ids) == len(link.devices)
    )


def plausible_cpu(cpu: Cpu, problems: Problems) -> Cpu:
    """The processor, with one core if the number of cores is implausible."""
    if 1 <= cpu.cores <= MAX_CORES:
        return cpu
    problems.append(f"This machine claims {cpu.cores} cores: one is assumed.")
    return cpu.model_copy(update={"cores": 1})


def plausible_disk(disk: Disk, problems: Problems) -> Disk:
    """The disk, without an implausible free space."""
    if disk.free is None or _is_plausible(disk.free, MAX_DISK_BYTES):
        return disk
    problems.append(f"The disk claims {disk.free} free bytes: how much room there is is not known.")
    return disk._replace(free=None)


def _free_part(owner: str, free: float, total: float, problems: Problems) -> int:
    """The free part of ``total`` bytes; 0 if it is implausible."""
    if _is_plausible(free, total):
        return int(free)
    problems.append(f"{owner} claims {free} bytes free of {total}: none is counted on.")
    return 0


def _is_plausible(value: float | None, limit: float) -> bool:
    return value is not None and math.isfinite(value) and 0 <= value <= limit


def _plausible(value: float | None, limit: float) -> float | None:
    return value if _is_plausible(value, limit) else None
