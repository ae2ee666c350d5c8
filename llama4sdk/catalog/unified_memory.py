"""The part of a Mac's memory that macOS lets its GPU use. Pure.

Source: ``iogpu.wired_limit_mb`` as llama.cpp's users found it on machines of 16 to 192 GB, 2024.
"""

from __future__ import annotations

from typing import Final

GIB: Final = 2**30
MIB: Final = 2**20

#: Bytes that macOS needs for itself: with less, the machine comes to a halt.
MACOS_BYTES: Final = 8 * GIB

#: Bytes of memory up to which macOS is more cautious.
SMALL_MAC_BYTES: Final = 36 * GIB


def usual_gpu_memory(total: int) -> int:
    """The GPU's limit unless it was raised: two thirds of a small Mac's memory, three quarters of a larger one's."""
    return total * 2 // 3 if total <= SMALL_MAC_BYTES else total * 3 // 4


def largest_gpu_memory(total: int) -> int:
    """The highest limit one can set: all but what macOS needs for itself."""
    return max(0, total - MACOS_BYTES)


def raise_gpu_memory_command(size: int) -> str:
    """The command that sets the limit to ``size`` bytes until the next start."""
    return f"sudo sysctl iogpu.wired_limit_mb={size // MIB}"
