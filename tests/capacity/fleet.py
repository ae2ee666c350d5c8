"""Sixty-odd machines people have, from a laptop to a rack: for each its name and what the planner is told of it."""

from __future__ import annotations

from collections.abc import Iterator

from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.hardware import Cpu, DiskKind, Hardware

__all__ = ["fleet"]

GIB = 2**30

LAPTOP = Cpu(name="laptop", cores=8, features=("avx2",))
DESKTOP = Cpu(name="desktop", cores=16, features=("avx2", "avx512f"))
SERVER = Cpu(
    name="server", cores=64, features=("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
)

CARDS = (
    *(("t4", 32), ("rtx-4080", 32), ("rtx-4080", 128), ("rx-9070-xt", 64), ("l4", 64), ("a10g", 64), ("rtx-3090", 64)),
    *(("rtx-4090", 32), ("rtx-4090", 64), ("rtx-4090", 192), ("rx-7900-xtx", 64), ("rtx-5090", 64), ("rtx-5090", 192)),
    *(("v100", 256), ("mi50", 128), ("a40", 128), ("l40s", 192), ("rtx-a6000", 64), ("rtx-6000-ada", 128)),
    *(("a100-40gb", 256), ("a100-80gb", 64), ("a100-80gb", 512), ("h100-80gb", 64), ("h100-80gb", 512)),
    *(("rtx-pro-6000", 64), ("rtx-pro-6000", 512), ("gh200", 480), ("h200", 256), ("b200", 512), ("b300", 512)),
    *(("mi300x", 512), ("mi355x", 512)),
)
SEVERAL = (
    *(("2xrtx-3090", 128), ("4xrtx-3090", 256), ("8xrtx-4090", 512), ("2xrtx-5090", 192), ("4xl40s", 512)),
    *(("2xrtx-pro-6000", 256), ("4xa100-40gb", 512), ("2xa100-80gb", 512), ("8xa100-80gb", 1024), ("2xh100", 512)),
    *(("3xh100", 512), ("4xh100", 1024), ("8xh100", 2048), ("16xh100", 4096), ("2xh200", 1024), ("8xh200", 2048)),
    *(("8xb200", 2048), ("4xb300", 2048), ("8xmi300x", 2048), ("2xmi50", 128)),
)
MIXED = (("rtx-4090, rtx-3090", 128), ("h100, a100-40gb", 512), ("2xh100, 2xrtx-4090", 512))
UNIFIED = ("m5-32gb", "m4-pro-64gb", "m3-max-128gb", "m2-ultra-192gb", "m3-ultra-512gb", "gb10", "ryzen-ai-max")


def fleet() -> Iterator[tuple[str, Hardware]]:
    """Each machine with a name of its own."""
    for ram, cpu in (
        (8, LAPTOP),
        (16, LAPTOP),
        (32, LAPTOP),
        (64, DESKTOP),
        (128, DESKTOP),
        (512, SERVER),
        (1536, SERVER),
    ):
        yield f"no GPU, {ram} GB RAM", with_disk(describe("none", ram=ram * GIB), cpu=cpu)
    yield "no GPU, 32 GB RAM, hard disk", with_disk(describe("none", ram=32 * GIB), kind="hdd")
    yield (
        "no GPU, 256 GB RAM, 205 GB/s",
        with_disk(describe("none", ram=256 * GIB)).model_copy(update={"memory_bandwidth": 205 * 10**9, "cpu": SERVER}),
    )
    for name in UNIFIED:
        yield name, with_disk(describe(name))
    for name, ram in (*CARDS, *SEVERAL, *MIXED):
        yield f"{name}, {ram} GB RAM", with_disk(describe(name, ram=ram * GIB))
    yield from _in_the_way()


def _in_the_way() -> Iterator[tuple[str, Hardware]]:
    """Machines of which something is taken, cut up, hidden or forbidden."""
    four = with_disk(describe("4xh100", ram=1024 * GIB))
    busy = tuple(
        d.model_copy(update={"free_memory": (10 + 20 * d.index) * 10**9, "processes": 1}) for d in four.devices
    )
    yield "4xh100 with 10, 30, 50 and 70 GB free", four.model_copy(update={"devices": busy})
    hidden = {"devices": four.devices[:1], "links": (), "hidden_devices": ("H100",) * 3}
    yield "4xh100 of which three are hidden", four.model_copy(update=hidden)
    one = with_disk(describe("h100", ram=512 * GIB))
    for parts, name, size in ((7, "1g.10gb", 10), (3, "2g.20gb", 20), (2, "3g.40gb", 40)):
        cut: dict[str, object] = {"total_memory": size * GIB, "free_memory": int(size * GIB * 0.98), "slice": True}
        cut["name"] = f"NVIDIA H100 80GB HBM3 MIG {name}"
        slices = tuple(one.devices[0].model_copy(update={**cut, "index": n}) for n in range(parts))
        yield f"h100 in {parts} slices {name}", one.model_copy(update={"devices": slices})
    limit = {"total_memory": 16 * GIB, "free_memory": 14 * GIB, "installed_memory": 512 * GIB}
    yield "h100 in a container with 16 GB of 512 GB RAM", one.model_copy(update=limit)
    small = with_disk(describe("none", ram=512 * GIB), cpu=SERVER)
    yield "no GPU, a container with 16 GB of 512 GB RAM", small.model_copy(update=limit)
    yield "no GPU, 512 GB RAM of which 40 GB are free", small.model_copy(update={"free_memory": 40 * GIB})
    unknown = one.devices[0].model_copy(update={"name": "NVIDIA X1", "compute_capability": (12, 9)})
    yield "an unknown card with 80 GB, 512 GB RAM", one.model_copy(update={"devices": (unknown,)})
    reporting = unknown.model_copy(update={"memory_bandwidth": 2 * 10**12})
    yield "an unknown card with 80 GB at 2000 GB/s, 512 GB RAM", one.model_copy(update={"devices": (reporting,)})
    taken = with_disk(describe("gb10"))
    yield "gb10 of which 60 GB are free", taken.model_copy(update={"free_memory": 60 * GIB})


def with_disk(machine: Hardware, *, kind: DiskKind = "nvme", cpu: Cpu = DESKTOP) -> Hardware:
    """A terabyte free."""
    return machine.model_copy(update={"disk_free": 10**12, "disk_kind": kind, "cpu": cpu})
