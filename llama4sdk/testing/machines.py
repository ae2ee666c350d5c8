"""Machines to plan for without owning them. Sizes are what such machines report, in bytes."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from llama4sdk.hardware import Cpu, Device, Hardware

__all__ = ["CRAMPED", "GPU_24GB", "H100_X1", "H100_X8", "LAPTOP", "MACHINES", "MAC_64GB", "machine"]

GIB: Final = 2**30


def machine(*devices: Device, memory: int = 16 * GIB, free: int | None = None, cores: int = 8) -> Hardware:
    """A Linux machine with these accelerators; ``free`` RAM is three quarters of ``memory`` unless given."""
    return Hardware(
        system="Linux x86_64",
        cpu=Cpu(name="Test CPU", cores=cores, features=("avx2",)),
        total_memory=memory,
        free_memory=memory * 3 // 4 if free is None else free,
        devices=devices,
        driver="570.86.15" if any(device.kind == "cuda" for device in devices) else None,
        disk_free=500 * 10**9,
    )


def _h100(index: int) -> Device:
    return Device(
        kind="cuda",
        index=index,
        name="NVIDIA H100 80GB HBM3",
        total_memory=85_520_809_984,
        free_memory=84_900_000_000,
        compute_capability=(9, 0),
    )


#: 16 GiB of RAM, no accelerator.
LAPTOP: Final = machine()

#: One free mebibyte: no weights fit, so a backend that holds any must say no.
CRAMPED: Final = machine(memory=64 * 2**20, free=2**20, cores=1)

#: One 24 GB consumer GPU, 64 GiB of RAM.
GPU_24GB: Final = machine(
    Device(
        kind="cuda",
        index=0,
        name="NVIDIA GeForce RTX 4090",
        total_memory=25_757_220_864,
        free_memory=24_900_000_000,
        compute_capability=(8, 9),
    ),
    memory=64 * GIB,
    cores=16,
)

#: One H100 with 80 GB.
H100_X1: Final = machine(_h100(0), memory=128 * GIB, cores=16)

#: The usual eight-GPU server: 640 GB of device memory, 2 TiB of RAM.
H100_X8: Final = machine(*(_h100(index) for index in range(8)), memory=2048 * GIB, cores=192)

#: A Mac whose GPU shares 64 GiB with the processor.
MAC_64GB: Final = Hardware(
    system="Darwin arm64",
    cpu=Cpu(name="Apple M3 Max", cores=16, features=("neon",)),
    total_memory=64 * GIB,
    free_memory=48 * GIB,
    devices=(
        Device(kind="mps", index=0, name="Apple M3 Max", total_memory=48 * GIB, free_memory=44 * GIB, unified=True),
    ),
    disk_free=500 * 10**9,
)

#: All of them by name.
MACHINES: Final = MappingProxyType(
    {
        "laptop": LAPTOP,
        "cramped": CRAMPED,
        "gpu-24gb": GPU_24GB,
        "h100-x1": H100_X1,
        "h100-x8": H100_X8,
        "mac-64gb": MAC_64GB,
    }
)
