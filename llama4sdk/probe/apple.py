"""Apple GPUs, which share the machine's memory."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable
from typing import Final

from llama4sdk.hardware import Device

__all__ = ["APPLE_ABSENT", "largest_share", "raise_limit", "read", "usual_share"]

APPLE_ABSENT: Final[tuple[Device, ...]] = ()

GIB: Final = 2**30
MIB: Final = 2**20
#: Memory that macOS needs for itself.
MACOS_BYTES: Final = 8 * GIB


def read(free: int, sysctl: Callable[[str], int | str | None] | None = None) -> tuple[Device, ...]:
    """The GPU of this machine, if it is an Apple one; ``free`` is the machine's free memory in bytes.

    ``sysctl`` returns a kernel value by its name.
    """
    if sysctl is None:
        if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
            return APPLE_ABSENT
        sysctl = _sysctl
    total = int(sysctl("hw.memsize") or 0)
    gpu_memory = int(sysctl("iogpu.wired_limit_mb") or 0) * MIB or usual_share(total)
    name = str(sysctl("machdep.cpu.brand_string") or "Apple GPU")
    return (
        Device(
            kind="mps", index=0, name=name, total_memory=gpu_memory, free_memory=min(gpu_memory, free), unified=True
        ),
    )


def usual_share(total: int) -> int:
    """Bytes that macOS lets the GPU use by default: two thirds of ``total``, three quarters above 36 GiB."""
    return total * 2 // 3 if total <= 36 * GIB else total * 3 // 4


def largest_share(total: int) -> int:
    """Bytes that the GPU can be allowed to use: all but what macOS needs."""
    return max(0, total - MACOS_BYTES)


def raise_limit(size: int) -> str:
    """The command that lets the GPU use ``size`` bytes until the next restart."""
    return f"sudo sysctl iogpu.wired_limit_mb={size // MIB}"


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
