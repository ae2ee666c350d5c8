"""What drivers and kernels say, as far as it can be true: what cannot is left out, and said. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from llama4sdk.hardware import MOST_CORES, MOST_DEVICES, MOST_DISK, MOST_MEMORY, Cpu, Device, Link
from llama4sdk.probe.disk import Disk
from llama4sdk.probe.memory import Memory

__all__ = ["plausible_cpu", "plausible_devices", "plausible_disk", "plausible_links", "plausible_memory"]

BANDWIDTHS: Final = (5 * 10**9, 10**14)
"""Bytes per second that a device's memory can have: less than an old laptop's is no more than a wrong clock."""

Problems = list[str]


def plausible_memory(found: Memory, problems: Problems) -> Memory:
    """Nothing of it is free where even its size cannot be true."""
    if not _size(found.total, MOST_MEMORY):
        problems.append(f"This machine claims {found.total} bytes of memory: how much there is is not known.")
        return Memory()
    free = _part("This machine", found.free, found.total, problems)
    installed = found.installed if _size(found.installed, MOST_MEMORY) else 0
    swap = int(found.swap) if _size(found.swap, MOST_MEMORY) else 0
    whole = max(swap, int(found.total_swap)) if _size(found.total_swap, MOST_MEMORY) else swap
    return Memory(total=int(found.total), free=free, installed=int(installed), swap=swap, total_swap=whole)


def plausible_devices(found: Iterable[Device], problems: Problems) -> tuple[Device, ...]:
    """Those whose memory can be what they say."""
    kept: list[Device] = []
    for device in found:
        if not device.total_memory or not _size(device.total_memory, MOST_MEMORY):
            problems.append(f"{device.id} claims {device.total_memory} bytes of memory: it is left out.")
        elif len(kept) < MOST_DEVICES:
            free = _part(device.id, device.free_memory, device.total_memory, problems)
            speed = (
                device.host_bandwidth if device.host_bandwidth and _size(device.host_bandwidth, MOST_MEMORY) else None
            )
            watts = device.power_limit if _size(device.power_limit, MOST_MEMORY) else None
            own = device.memory_bandwidth if BANDWIDTHS[0] <= (device.memory_bandwidth or 0) <= BANDWIDTHS[1] else None
            able = device.compute_capability
            changes = {
                "free_memory": free,
                "memory_bandwidth": own,
                "host_bandwidth": speed,
                "power_limit": watts,
                "compute_capability": able if able and all(_size(part, MOST_CORES) for part in able) else None,
                "processes": device.processes if _size(device.processes, MOST_MEMORY) else 0,
            }
            kept.append(device.model_copy(update=changes))
    return tuple(kept)


def plausible_links(found: Iterable[Link], devices: Iterable[Device]) -> tuple[Link, ...]:
    """Those between two of the devices, and as fast as they say where that can be."""
    ids = {device.id for device in devices}
    between = (link for link in found if len({*link.devices} & ids) == len(link.devices))
    return tuple(
        link if link.bandwidth and _size(link.bandwidth, MOST_MEMORY) else link.model_copy(update={"bandwidth": None})
        for link in between
    )


def plausible_cpu(found: Cpu, problems: Problems) -> Cpu:
    """With one core at least."""
    if 1 <= found.cores <= MOST_CORES:
        return found
    problems.append(f"This machine claims {found.cores} cores: one is assumed.")
    return found.model_copy(update={"cores": 1})


def plausible_disk(found: Disk, problems: Problems) -> Disk:
    """Without its free space where that cannot be true."""
    if found.free is None or _size(found.free, MOST_DISK):
        return found
    problems.append(f"The disk claims {found.free} free bytes: how much room there is is not known.")
    return found._replace(free=None)


def _part(whose: str, free: float, total: float, problems: Problems) -> int:
    """Of memory that is said to be free; a share that cannot be true counts as none."""
    if _size(free, total):
        return int(free)
    problems.append(f"{whose} claims {free} bytes free of {total}: none is counted on.")
    return 0


def _size(value: float | None, most: float) -> bool:
    return value is not None and math.isfinite(value) and 0 <= value <= most
