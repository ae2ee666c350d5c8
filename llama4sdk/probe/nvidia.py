"""NVIDIA GPUs through NVML, which opens no CUDA context. NVML's sizes are bytes; its clocks and links are as specified.

Only memory and name are needed. Whatever else a driver cannot tell (old ones, virtual GPUs, Jetson) is left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import pynvml

from llama4sdk.hardware import Device, Link
from llama4sdk.probe import memory
from llama4sdk.probe.visible_devices import select

__all__ = ["NVIDIA_ABSENT", "OUT_OF_REACH", "Nvidia", "read"]

T = TypeVar("T")

NVLINK_BANDWIDTH: Final = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}
"""Bytes per second and link, one way, by NVLink's version."""

PCIE_LANE: Final = {1: 0.25e9, 2: 0.5e9, 3: 1e9, 4: 2e9, 5: 4e9, 6: 8e9}
"""Bytes per second and lane, one way, by PCIe's generation."""

KERNEL_DRIVER: Final = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))
"""What the kernel shows of NVIDIA's driver, inside containers as well."""

OUT_OF_REACH: Final = (
    "NVIDIA's driver is loaded, but its library libnvidia-ml.so.1 is not here: start the container with --gpus all "
    "(NVIDIA Container Toolkit), or install the driver's libraries."
)

MAX_CARDS: Final = 256
"""More in one machine are not believed."""

MAX_LINKS: Final = 18
"""NVLinks of one device, at most."""


class Nvidia(NamedTuple):
    """The driver, the devices this process may use and their connections; the names of the others, and what failed."""

    driver: str | None = None
    cuda: tuple[int, int] | None = None
    devices: tuple[Device, ...] = ()
    links: tuple[Link, ...] = ()
    hidden: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


NVIDIA_ABSENT: Final = Nvidia()


class _Found(NamedTuple):
    handle: Any
    device: Device


def read(environment: Mapping[str, str] = os.environ, places: Sequence[Path] = KERNEL_DRIVER) -> Nvidia:
    """What NVML reports; no driver on the machine is an answer, not an error."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return Nvidia(problems=(OUT_OF_REACH,)) if any(place.exists() for place in places) else NVIDIA_ABSENT
    except pynvml.NVMLError_DriverNotLoaded:
        return NVIDIA_ABSENT
    try:
        found: list[_Found] = []
        problems: list[str] = []
        for index in range(_count(problems)):
            try:
                found += _usable(index)
            except pynvml.NVMLError as error:  # one lost card leaves the others
                problems.append(f"Could not read GPU {index}: {error}.")
        visible = select([part.device for part in found], environment.get("CUDA_VISIBLE_DEVICES"))
        shown = [
            part._replace(device=part.device.model_copy(update={"index": place}))
            for place, part in enumerate(found[number] for number in visible)
        ]
        return Nvidia(
            driver=_text(pynvml.nvmlSystemGetDriverVersion()),
            cuda=_asked(_cuda),
            devices=tuple(part.device for part in shown),
            links=tuple(_links(shown)),
            hidden=tuple(part.device.name for number, part in enumerate(found) if number not in visible),
            problems=tuple(problems),
        )
    finally:
        pynvml.nvmlShutdown()


def _count(problems: list[str]) -> int:
    """How many cards there are; none where more are claimed than can be."""
    count = int(pynvml.nvmlDeviceGetCount())
    if 0 <= count <= MAX_CARDS:
        return count
    problems.append(f"The NVIDIA driver claims {count} GPUs: none is counted on.")
    return 0


def _usable(index: int) -> Iterator[_Found]:
    """A card, or the slices of one that was divided: then the card itself runs nothing."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    divided, _ = _asked(pynvml.nvmlDeviceGetMigMode, handle) or (0, 0)
    if not divided:
        yield _Found(handle, _device(handle, handle))
        return
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        part = _asked(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        if part is not None:  # numbers may have gaps
            yield _Found(part, _device(part, handle, slice=True))


def _device(handle: Any, card: Any, *, slice: bool = False) -> Device:  # noqa: A002 - the field's name
    """``card`` is the whole of which ``handle`` may be a slice. The index is given later, among the visible."""
    try:
        own = pynvml.nvmlDeviceGetMemoryInfo(handle)
        sizes = memory.Memory(total=int(own.total), free=int(own.free))
    except pynvml.NVMLError_NotSupported:  # a chip without memory of its own: GB10, Jetson
        own, sizes = None, memory.read()
    share = (_asked(_share_of, handle, card) or 1.0) if slice else 1.0
    speed = None if own is None else _asked(_bandwidth, card)
    return Device(
        kind="cuda",
        index=0,
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        total_memory=sizes.total,
        free_memory=sizes.free,
        compute_capability=_asked(_capability, card),
        uuid=_asked(_uuid, handle),
        slice=slice,
        unified=own is None,
        processes=_asked(_others, handle) or 0,
        memory_bandwidth=None if speed is None else int(speed * share),
        host_bandwidth=_asked(_pcie, card),
        power_limit=_asked(_watts, card),
        ecc=_asked(_ecc, card),
    )


def _uuid(handle: Any) -> str:
    return _text(pynvml.nvmlDeviceGetUUID(handle))


def _capability(card: Any) -> tuple[int, int]:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(card)
    return int(major), int(minor)


def _watts(card: Any) -> float:
    return float(pynvml.nvmlDeviceGetPowerManagementLimit(card) / 1000)


def _ecc(card: Any) -> bool:
    return bool(pynvml.nvmlDeviceGetEccMode(card)[0])


def _others(handle: Any) -> int:
    """Inside a container the numbers of processes mean nothing; how many there are still does."""
    return sum(process.pid != os.getpid() for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))


def _bandwidth(card: Any) -> int:
    """Bytes per second of its memory: two transfers in a cycle of the clock that NVML names, of any kind of memory.

    HBM does that; GDDR makes more of its own clock, and is named by one that is as much higher.
    Source: forums.developer.nvidia.com/t/rtx-3090-a100-memory-frequency/198730.
    """
    clock = pynvml.nvmlDeviceGetMaxClockInfo(card, pynvml.NVML_CLOCK_MEM)  # in MHz
    return int(pynvml.nvmlDeviceGetMemoryBusWidth(card) * clock * 1_000_000 * 2 // 8)


def _share_of(part: Any, card: Any) -> float:
    """What a slice has of its card's memory, and so of its speed."""
    sizes = [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in (part, card)]
    return min(1.0, sizes[0] / sizes[1]) if sizes[1] else 1.0


def _pcie(card: Any) -> int:
    """By the greatest generation: an idle card runs its link at a lower one."""
    lanes = pynvml.nvmlDeviceGetCurrPcieLinkWidth(card)
    return int(lanes * PCIE_LANE[pynvml.nvmlDeviceGetMaxPcieLinkGeneration(card)])


def _links(found: Sequence[_Found]) -> Iterator[Link]:
    """The pairs that reach each other directly; slices never do."""
    for one, other in combinations([part for part in found if not part.device.slice], 2):
        pair = (one.device.id, other.device.id)
        if _peers(one, other, pynvml.NVML_P2P_CAPS_INDEX_NVLINK):
            yield Link(devices=pair, kind="nvlink", bandwidth=_asked(_nvlink, one.handle))
        elif _peers(one, other, pynvml.NVML_P2P_CAPS_INDEX_READ):
            speeds = [part.device.host_bandwidth for part in (one, other)]
            yield Link(devices=pair, kind="peer", bandwidth=min((s for s in speeds if s is not None), default=None))


def _peers(one: _Found, other: _Found, way: int) -> bool:
    status = _asked(pynvml.nvmlDeviceGetP2PStatus, one.handle, other.handle, way)
    return bool(status == pynvml.NVML_P2P_STATUS_OK)


def _nvlink(handle: Any) -> int | None:
    """All links of a device together: with a switch between them, any two devices can use all of theirs."""
    active = [link for link in range(MAX_LINKS) if _asked(pynvml.nvmlDeviceGetNvLinkState, handle, link)]
    return int(sum(NVLINK_BANDWIDTH[pynvml.nvmlDeviceGetNvLinkVersion(handle, link)] for link in active)) or None


def _cuda() -> tuple[int, int]:
    version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    return version // 1000, version % 1000 // 10


def _asked(question: Callable[..., T], *about: Any) -> T | None:
    """The answer, or ``None`` where this driver or device has none."""
    try:
        return question(*about)
    except (pynvml.NVMLError, KeyError):
        return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
