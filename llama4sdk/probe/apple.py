"""Apple GPUs, which share the machine's memory."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Final

from llama4sdk.catalog.unified_memory import usual_gpu_memory
from llama4sdk.hardware import Device

MIB: Final = 2**20


def read(free: int, sysctl: Callable[[str], int | str | None] | None = None) -> tuple[Device, ...]:
    """The GPU of this machine, if it is an Apple one; ``free`` is the machine's free memory in bytes.

    ``sysctl`` returns a kernel value by its name.
    """
    if sysctl is None:
        if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
            return ()
        sysctl = _sysctl
    total = int(sysctl("hw.memsize") or 0)
    gpu_memory = int(sysctl("iogpu.wired_limit_mb") or 0) * MIB or usual_gpu_memory(total)
    name = str(sysctl("machdep.cpu.brand_string") or "Apple GPU")
    return (
        Device(
            kind="mps", index=0, name=name, total_memory=gpu_memory, free_memory=min(gpu_memory, free), unified=True
        ),
    )


def _sysctl(name: str) -> int | str | None:
    """One kernel value; ``None`` for an unknown name."""
    call = ctypes.CDLL(None).sysctlbyname
    size = ctypes.c_size_t(0)
    if call(name.encode(), None, ctypes.byref(size), None, 0) or not size.value:
        return None
    buffer = ctypes.create_string_buffer(size.value)
    if call(name.encode(), buffer, ctypes.byref(size), None, 0):
        return None
    if name.endswith("string"):
        return buffer.value.decode()
    return int.from_bytes(buffer.raw[: size.value], "little")
