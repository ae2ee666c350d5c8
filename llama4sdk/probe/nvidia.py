"""NVIDIA GPUs through NVML, which opens no CUDA context. NVML's sizes are bytes; its clocks and links are as specified.

Only memory and name are required. Other values that a driver does not report (old ones, virtual GPUs, Jetson) are None.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final, TypeVar

import pynvml

from llama4sdk.catalog.speeds import NVLINK_BANDWIDTH, PCIE_LANE_BANDWIDTH
from llama4sdk.hardware import Device, Link
from llama4sdk.probe import memory
from llama4sdk.probe.gpus import Gpu, Gpus, visible_gpus

T = TypeVar("T")

#: Files that exist while NVIDIA's driver is loaded, inside containers as well.
DRIVER_FILES: Final = (Path("/proc/driver/nvidia/version"), Path("/dev/nvidiactl"))

LIBRARY_MISSING: Final = (
    "NVIDIA's driver is loaded, but its library libnvidia-ml.so.1 is not here: start the container with --gpus all "
    "(NVIDIA Container Toolkit), or install the driver's libraries."
)

#: A driver that reports more is not believed.
MAX_CARDS: Final = 256

#: NVLinks of one device.
MAX_NVLINKS: Final = 18


def read(environment: Mapping[str, str] = os.environ, driver_files: Sequence[Path] = DRIVER_FILES) -> Gpus:
    """Read all GPUs; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError_LibraryNotFound:
        return Gpus(problems=(LIBRARY_MISSING,) if any(file.exists() for file in driver_files) else ())
    except pynvml.NVMLError_DriverNotLoaded:
        return Gpus()
    try:
        gpus: list[Gpu] = []
        problems: list[str] = []
        for index in range(_count(problems)):
            try:
                gpus += _usable_gpus(index)
            except pynvml.NVMLError as error:  # one lost card leaves the others
                problems.append(f"Could not read GPU {index}: {error}.")
        visible, hidden = visible_gpus(gpus, environment.get("CUDA_VISIBLE_DEVICES"))
        return Gpus(
            driver=pynvml.nvmlSystemGetDriverVersion(),
            cuda=_query(_cuda_version),
            devices=tuple(gpu.device for gpu in visible),
            links=tuple(_links(visible)),
            hidden=hidden,
            problems=tuple(problems),
        )
    finally:
        pynvml.nvmlShutdown()


def _count(problems: list[str]) -> int:
    """The number of cards; 0 when the driver reports an implausible one."""
    count = int(pynvml.nvmlDeviceGetCount())
    if 0 <= count <= MAX_CARDS:
        return count
    problems.append(f"The NVIDIA driver claims {count} GPUs: none is counted on.")
    return 0


def _usable_gpus(index: int) -> Iterator[Gpu]:
    """The card, or its MIG slices where it is divided: a divided card itself runs nothing."""
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    mig_mode, _ = _query(pynvml.nvmlDeviceGetMigMode, handle) or (0, 0)
    if not mig_mode:
        yield Gpu(handle, _device(handle, handle))
        return
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        slice_handle = _query(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, number)
        if slice_handle is not None:  # numbers may have gaps
            yield Gpu(slice_handle, _device(slice_handle, handle, slice=True))


def _device(handle: Any, card: Any, *, slice: bool = False) -> Device:  # noqa: A002 - the field's name
    """Describe the device of ``handle``, which may be a slice of ``card``; its index is set later."""
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(handle)
        sizes = memory.Memory(total=int(info.total), free=int(info.free))
    except pynvml.NVMLError_NotSupported:  # a chip without memory of its own: GB10, Jetson
        info, sizes = None, memory.read()
    fraction = (_query(_slice_fraction, handle, card) or 1.0) if slice else 1.0
    bandwidth = None if info is None else _query(_memory_bandwidth, card)
    return Device(
        kind="cuda",
        index=0,
        name=pynvml.nvmlDeviceGetName(handle),
        total_memory=sizes.total,
        free_memory=sizes.free,
        compute_capability=_query(pynvml.nvmlDeviceGetCudaComputeCapability, card),
        uuid=_query(pynvml.nvmlDeviceGetUUID, handle),
        slice=slice,
        unified=info is None,
        processes=_query(_other_processes, handle) or 0,
        memory_bandwidth=None if bandwidth is None else int(bandwidth * fraction),
        host_bandwidth=_query(_pcie_bandwidth, card),
        power_limit=_query(lambda: pynvml.nvmlDeviceGetPowerManagementLimit(card) / 1000),
        ecc=_query(lambda: bool(pynvml.nvmlDeviceGetEccMode(card)[0])),
    )


def _other_processes(handle: Any) -> int:
    """The number of other processes on the device. Inside a container only the count means anything, not the ids."""
    return sum(process.pid != os.getpid() for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))


def _memory_bandwidth(card: Any) -> int:
    """Memory bandwidth in bytes per second: two transfers per cycle of the clock that NVML reports, in any memory type.

    HBM has two; GDDR has more per cycle of its own clock, but NVML reports a clock that is higher by the same factor.
    Source: forums.developer.nvidia.com/t/rtx-3090-a100-memory-frequency/198730.
    """
    clock = pynvml.nvmlDeviceGetMaxClockInfo(card, pynvml.NVML_CLOCK_MEM)  # in MHz
    return int(pynvml.nvmlDeviceGetMemoryBusWidth(card) * clock * 1_000_000 * 2 // 8)


def _slice_fraction(slice_handle: Any, card: Any) -> float:
    """The fraction of its card's memory, and so of its bandwidth, that a slice has."""
    sizes = [int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in (slice_handle, card)]
    return min(1.0, sizes[0] / sizes[1]) if sizes[1] else 1.0


def _pcie_bandwidth(card: Any) -> int:
    """PCIe bandwidth at the link's highest generation: an idle card runs at a lower one."""
    lanes = pynvml.nvmlDeviceGetCurrPcieLinkWidth(card)
    return int(lanes * PCIE_LANE_BANDWIDTH[pynvml.nvmlDeviceGetMaxPcieLinkGeneration(card)])


def _links(gpus: Sequence[Gpu]) -> Iterator[Link]:
    """The pairs of devices with direct access to each other; slices have none."""
    for first, second in combinations([gpu for gpu in gpus if not gpu.device.slice], 2):
        pair = (first.device.id, second.device.id)
        if _can_access(first, second, pynvml.NVML_P2P_CAPS_INDEX_NVLINK):
            yield Link(devices=pair, kind="nvlink", bandwidth=_query(_nvlink_bandwidth, first.handle))
        elif _can_access(first, second, pynvml.NVML_P2P_CAPS_INDEX_READ):
            speeds = [gpu.device.host_bandwidth for gpu in (first, second)]
            yield Link(
                devices=pair, kind="peer", bandwidth=min((speed for speed in speeds if speed is not None), default=None)
            )


def _can_access(first: Gpu, second: Gpu, capability: int) -> bool:
    status = _query(pynvml.nvmlDeviceGetP2PStatus, first.handle, second.handle, capability)
    return bool(status == pynvml.NVML_P2P_STATUS_OK)


def _nvlink_bandwidth(handle: Any) -> int | None:
    """Bandwidth of all active NVLinks of a device: through a switch, any two devices can use all of theirs."""
    active = [link for link in range(MAX_NVLINKS) if _query(pynvml.nvmlDeviceGetNvLinkState, handle, link)]
    return int(sum(NVLINK_BANDWIDTH[pynvml.nvmlDeviceGetNvLinkVersion(handle, link)] for link in active)) or None


def _cuda_version() -> tuple[int, int]:
    version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
    return version // 1000, version % 1000 // 10


def _query(function: Callable[..., T], *arguments: Any) -> T | None:
    """The result of an NVML function; ``None`` where this driver or device does not support it."""
    try:
        return function(*arguments)
    except (pynvml.NVMLError, KeyError):
        return None
