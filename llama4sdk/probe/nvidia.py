"""NVIDIA GPUs through NVML, which opens no CUDA context."""

from __future__ import annotations

from typing import Final, NamedTuple

from llama4sdk.hardware import Device

__all__ = ["NVIDIA_ABSENT", "Nvidia", "read"]


class Nvidia(NamedTuple):
    """The driver's version and its devices."""

    driver: str | None
    devices: tuple[Device, ...]


NVIDIA_ABSENT: Final = Nvidia(driver=None, devices=())


def read() -> Nvidia:
    """What NVML reports; no driver on the machine is an answer, not an error."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded):
        return NVIDIA_ABSENT
    try:
        count = pynvml.nvmlDeviceGetCount()
        driver = _text(pynvml.nvmlSystemGetDriverVersion())
        return Nvidia(driver=driver, devices=tuple(_device(index) for index in range(count)))
    finally:
        pynvml.nvmlShutdown()


def _device(index: int) -> Device:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Device(
        kind="cuda",
        index=index,
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        total_memory=int(memory.total),
        free_memory=int(memory.free),
        compute_capability=(int(major), int(minor)),
    )


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
