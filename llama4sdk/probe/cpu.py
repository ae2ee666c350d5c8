"""The processor: name, usable cores, NUMA nodes and the instruction sets that kernels use."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import Final

from llama4sdk.hardware import Cpu

CPUINFO: Final = Path("/proc/cpuinfo")
NODES: Final = Path("/sys/devices/system/node")
QUOTA_V2: Final = Path("/sys/fs/cgroup/cpu.max")
QUOTA_V1: Final = tuple(Path(f"/sys/fs/cgroup/cpu/cpu.cfs_{part}_us") for part in ("quota", "period"))

#: The flags of ``/proc/cpuinfo`` that are reported.
FEATURES: Final = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "i8mm", "bf16", "sve", "sve2"),
)


def read() -> Cpu:
    """Read the processor of this machine."""
    if not CPUINFO.exists():
        return unknown()
    cpu = parse_cpuinfo(CPUINFO.read_text(errors="replace"), cores=_cores())
    return cpu.model_copy(update={"numa_nodes": len(list(NODES.glob("node[0-9]*"))) or 1})


def unknown() -> Cpu:
    """The processor as Python alone knows it, without instruction sets."""
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


def quota(text: str) -> int | None:
    """Cores that a control group's ``quota period`` allows, rounded up; ``None`` without a limit."""
    allowed, _, period = text.partition(" ")
    if not allowed.isdecimal() or not period.strip().isdecimal():  # "max", or -1
        return None
    return max(1, math.ceil(int(allowed) / int(period)))


def _cores() -> int:
    """Cores that this process may use, by its affinity and its control group's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in ((QUOTA_V2,), QUOTA_V1):
        if all(file.exists() for file in files):
            cores = min(cores, quota(" ".join(file.read_text().strip() for file in files)) or cores)
    return cores
