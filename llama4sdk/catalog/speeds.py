"""Speeds of a machine's parts that no driver tells, for predictions where nobody has measured.

``llama4sdk doctor --bench`` measures memory and disk, and its figures replace these. All are in bytes per second one
way, or in operations per second, except shares. "Taken to be" marks what is usual and was not looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llama4sdk.hardware import DiskKind

#: A processor's memory. Taken to be between a laptop's and a server's, 2026-11.
HOST_MEMORY_BANDWIDTH: Final = 60_000_000_000

#: One core in bf16 or fp32, by the first of these instruction sets that it has. Source: matrix products of torch and
#: oneDNN on a Sapphire Rapids (1.1 to 2.2e12 on two cores with AMX), 2026-11; those without AMX are taken to be so.
CORE_FLOPS: Final = (("amx_bf16", 1.0e12), ("avx512_bf16", 2.0e11), ("avx512f", 1.5e11), ("avx2", 6.0e10), ("", 3.0e10))

#: Reading in large blocks. Taken to be: PCIe 3 x4 drives, SATA drives, one spindle, a 2-gigabit share of a network;
#: 2026-11.
DISK_BANDWIDTH: Final[Mapping[DiskKind, float]] = {"nvme": 3.5e9, "ssd": 5e8, "hdd": 1.5e8, "network": 2e8}

#: The share of the speed of several devices that is left where nothing but PCIe joins them. Taken to be so, 2026-11.
PCIE_SPEED_SHARE: Final = 0.6

#: One link, by NVLink's version. Source: NVIDIA's architecture papers from Pascal to Blackwell, 2025.
NVLINK_BANDWIDTH: Final = {1: 20e9, 2: 25e9, 3: 25e9, 4: 25e9, 5: 50e9}

#: One lane, by PCIe's generation. Source: PCI-SIG's transfer rates less their encoding, 2022.
PCIE_LANE_BANDWIDTH: Final = {1: 0.25e9, 2: 0.5e9, 3: 1e9, 4: 2e9, 5: 4e9, 6: 8e9}

#: Bits that a line of AMD's memory bus carries in a cycle of the clock that its driver names, by the beginning of the
#: architecture's name. Source: JEDEC's standards of HBM3 (four), HBM2 (two) and GDDR6 (sixteen), 2022.
GPU_MEMORY_TRANSFERS: Final = (("gfx94", 4), ("gfx95", 4), ("gfx9", 2), ("gfx10", 16), ("gfx11", 16), ("gfx12", 16))
