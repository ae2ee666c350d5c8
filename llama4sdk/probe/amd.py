"""AMD GPUs as the kernel's compute driver (KFD) lists them; its files need no library and open no context."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from llama4sdk.catalog.speeds import GPU_MEMORY_TRANSFERS
from llama4sdk.hardware import Device, Link
from llama4sdk.probe.gpus import Gpu, Gpus, visible_gpus

SYSFS: Final = Path("/sys/class")
#: GPUs that share all memory with the processor, with none set aside (MI300A).
SHARED_MEMORY_ARCHITECTURES: Final = ("gfx942",)

#: The type of KFD links that are xGMI, not PCIe.
XGMI_LINK: Final = "11"


def read(root: Path = SYSFS, environment: Mapping[str, str] = os.environ) -> Gpus:
    """Read the GPUs under ``root``."""
    nodes = root / "kfd" / "kfd" / "topology" / "nodes"
    if not nodes.is_dir():
        return Gpus()
    gpus = [
        gpu for node in sorted(nodes.iterdir(), key=lambda node: int(node.name)) for gpu in _gpu(node, root / "drm")
    ]
    visible, hidden = visible_gpus(
        gpus, environment.get("ROCR_VISIBLE_DEVICES"), environment.get("HIP_VISIBLE_DEVICES")
    )
    return Gpus(devices=tuple(gpu.device for gpu in visible), links=tuple(_links(visible)), hidden=hidden)


def _gpu(node: Path, drm: Path) -> Iterator[Gpu]:
    """The GPU of a topology node; none for a node that is a processor."""
    facts = _properties(node / "properties")
    if not int(facts.get("simd_count", 0)):
        return
    files = drm / f"renderD{facts['drm_render_minor']}" / "device"
    shared = int(facts.get("cpu_cores_count", 0)) > 0
    pools = ("vram", "gtt") if shared else ("vram",)
    sizes = [
        (_number(files / f"mem_info_{pool}_total"), _number(files / f"mem_info_{pool}_used"), pool) for pool in pools
    ]
    total, used, pool = max(sizes)  # an APU uses its reserved memory, or borrows more of the machine's
    gfx = _architecture(int(facts["gfx_target_version"]))
    name = files / "product_name"
    yield Gpu(
        node,
        Device(
            kind="rocm",
            index=0,
            name=(name.read_text().strip() if name.exists() else "") or f"AMD {gfx}",
            total_memory=total,
            free_memory=max(0, total - used),
            architecture=gfx,
            uuid=f"GPU-{int(facts['unique_id']):x}" if int(facts.get("unique_id", 0)) else None,
            unified=shared and (pool == "gtt" or gfx in SHARED_MEMORY_ARCHITECTURES),
            memory_bandwidth=None if shared else _bandwidth(node, gfx),
        ),
    )


def _bandwidth(node: Path, gfx: str) -> int | None:
    """Memory bandwidth in bytes per second, from the driver's bus width and clock, and the kind of memory."""
    bank = node / "mem_banks" / "0" / "properties"
    bits_per_cycle = next((bits for name, bits in GPU_MEMORY_TRANSFERS if gfx.startswith(name)), 0)
    if not bits_per_cycle or not bank.exists():
        return None
    facts = _properties(bank)
    return int(facts.get("width", 0)) * int(facts.get("mem_clk_max", 0)) * 1_000_000 * bits_per_cycle // 8 or None


def _links(gpus: list[Gpu]) -> Iterator[Link]:
    """The xGMI links between these GPUs, each pair once."""
    ids = {gpu.handle.name: gpu.device.id for gpu in gpus}
    for gpu in gpus:
        for file in sorted((gpu.handle / "io_links").glob("*/properties")):
            facts = _properties(file)
            other = ids.get(facts.get("node_to", ""))
            if facts.get("type") == XGMI_LINK and other is not None and gpu.device.id < other:
                speed = int(facts.get("max_bandwidth", 0)) * 1_000_000  # the file has MB/s
                yield Link(devices=(gpu.device.id, other), kind="xgmi", bandwidth=speed or None)


def _architecture(version: int) -> str:
    """Name a target version: 90402 is gfx942, 90010 is gfx90a, 110000 is gfx1100."""
    return f"gfx{version // 10_000}{version // 100 % 100:x}{version % 100:x}"


def _properties(file: Path) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in file.read_text().splitlines())
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _number(file: Path) -> int:
    return int(file.read_text()) if file.exists() else 0
