"""The processor, as far as kernels care."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

from llama4sdk.hardware import Cpu

__all__ = ["parse_cpuinfo", "read", "unknown"]

CPUINFO: Final = Path("/proc/cpuinfo")

FEATURES: Final = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "sve")
"""The flags of ``/proc/cpuinfo`` that are kept."""


def read() -> Cpu:
    """Name, usable cores and instruction sets of this machine's processor."""
    if CPUINFO.exists():
        return parse_cpuinfo(CPUINFO.read_text(errors="replace"), cores=_cores())
    return unknown()


def unknown() -> Cpu:
    """What can be said without reading anything."""
    return Cpu(name=platform.processor() or platform.machine(), cores=_cores())


def parse_cpuinfo(text: str, *, cores: int) -> Cpu:
    """Read the first processor of a Linux ``cpuinfo``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = (fields.get("flags") or fields.get("features") or "").split()
    name = fields.get("model name") or fields.get("hardware") or platform.machine()
    return Cpu(name=name, cores=cores, features=tuple(flag for flag in FEATURES if flag in flags))


def _cores() -> int:
    """Cores this process may run on, not those the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
