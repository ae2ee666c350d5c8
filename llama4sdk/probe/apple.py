"""Apple's chips, whose GPU works in the machine's own memory."""

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
OWN: Final = 8 * GIB
"""What is left to macOS: with less, the machine comes to a halt."""


def read(free: int, ask: Callable[[str], int | str | None] | None = None) -> tuple[Device, ...]:
    """The GPU of this Mac, if it is one; ``free`` is the machine's free memory in bytes.

    ``ask`` answers the names of ``sysctl``.
    """
    if ask is None:
        if (platform.system(), platform.machine()) != ("Darwin", "arm64"):
            return APPLE_ABSENT
        ask = _sysctl
    total = int(ask("hw.memsize") or 0)
    lent = int(ask("iogpu.wired_limit_mb") or 0) * MIB or usual_share(total)
    name = str(ask("machdep.cpu.brand_string") or "Apple GPU")
    return (Device(kind="mps", index=0, name=name, total_memory=lent, free_memory=min(lent, free), unified=True),)


def usual_share(total: int) -> int:
    """What macOS lets a GPU have unless told otherwise: two thirds, three quarters above 36 GiB."""
    return total * 2 // 3 if total <= 36 * GIB else total * 3 // 4


def largest_share(total: int) -> int:
    """What one can let it have: all but what macOS needs itself."""
    return max(0, total - OWN)


def raise_limit(size: int) -> str:
    """The command that lets it have so many bytes, until the next start."""
    return f"sudo sysctl iogpu.wired_limit_mb={size // MIB}"


def _sysctl(name: str) -> int | str | None:
    """One value of the kernel; ``None`` when it knows no such name."""
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
