"""AMD GPUs as the kernel's compute driver (KFD) lists them; its files need no library and open no context."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from llama4sdk.hardware import Device, Link
from llama4sdk.probe.visible_devices import select

__all__ = ["AMD_ABSENT", "Amd", "read"]

SYSFS: Final = Path("/sys/class")
ONE_POOL: Final = ("gfx942",)
"""Processors with a GPU whose memory nothing is set aside of (MI300A)."""

TRANSFERS: Final = (("gfx94", 4), ("gfx95", 4), ("gfx9", 2), ("gfx10", 16), ("gfx11", 16), ("gfx12", 16))
"""Bits a line of the bus carries in a cycle of the clock that the driver names: HBM3 four, HBM2 two, GDDR6 sixteen."""

XGMI: Final = "11"
"""The type of a KFD link that is AMD's own, not PCIe."""


class Amd(NamedTuple):
    """The devices this process may use, how they are connected, and the names of the others."""

    devices: tuple[Device, ...] = ()
    links: tuple[Link, ...] = ()
    hidden: tuple[str, ...] = ()


AMD_ABSENT: Final = Amd()


class _Found(NamedTuple):
    node: Path
    device: Device


def read(root: Path = SYSFS, environment: Mapping[str, str] = os.environ) -> Amd:
    """What lies under ``root``; nothing there is an answer, not an error."""
    nodes = root / "kfd" / "kfd" / "topology" / "nodes"
    if not nodes.is_dir():
        return AMD_ABSENT
    found = [
        part for node in sorted(nodes.iterdir(), key=lambda node: int(node.name)) for part in _gpu(node, root / "drm")
    ]
    shown = found
    for variable in ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):  # the one numbers what the other has left
        shown = [shown[place] for place in select([part.device for part in shown], environment.get(variable))]
    hidden = tuple(part.device.name for part in found if part not in shown)
    shown = [part._replace(device=part.device.model_copy(update={"index": place})) for place, part in enumerate(shown)]
    return Amd(devices=tuple(part.device for part in shown), links=tuple(_links(shown)), hidden=hidden)


def _gpu(node: Path, drm: Path) -> Iterator[_Found]:
    """The GPU of a node; processors are nodes, too."""
    facts = _properties(node / "properties")
    if not int(facts.get("simd_count", 0)):
        return
    files = drm / f"renderD{facts['drm_render_minor']}" / "device"
    shared = int(facts.get("cpu_cores_count", 0)) > 0
    pools = ("vram", "gtt") if shared else ("vram",)
    sizes = [
        (_number(files / f"mem_info_{pool}_total"), _number(files / f"mem_info_{pool}_used"), pool) for pool in pools
    ]
    total, used, pool = max(sizes)  # an APU has what was set aside for it, or is lent more of the machine's memory
    gfx = _architecture(int(facts["gfx_target_version"]))
    name = files / "product_name"
    yield _Found(
        node,
        Device(
            kind="rocm",
            index=0,
            name=(name.read_text().strip() if name.exists() else "") or f"AMD {gfx}",
            total_memory=total,
            free_memory=max(0, total - used),
            architecture=gfx,
            uuid=f"GPU-{int(facts['unique_id']):x}" if int(facts.get("unique_id", 0)) else None,
            unified=shared and (pool == "gtt" or gfx in ONE_POOL),
            memory_bandwidth=None if shared else _bandwidth(node, gfx),
        ),
    )


def _bandwidth(node: Path, gfx: str) -> int | None:
    """Bytes per second of its memory: width and clock are the driver's, the rest is the kind of memory."""
    bank = node / "mem_banks" / "0" / "properties"
    each = next((bits for name, bits in TRANSFERS if gfx.startswith(name)), 0)
    if not each or not bank.exists():
        return None
    facts = _properties(bank)
    return int(facts.get("width", 0)) * int(facts.get("mem_clk_max", 0)) * 1_000_000 * each // 8 or None


def _links(found: list[_Found]) -> Iterator[Link]:
    """Each pair once."""
    ids = {part.node.name: part.device.id for part in found}
    for part in found:
        for file in sorted((part.node / "io_links").glob("*/properties")):
            facts = _properties(file)
            other = ids.get(facts.get("node_to", ""))
            if facts.get("type") == XGMI and other is not None and part.device.id < other:
                speed = int(facts.get("max_bandwidth", 0)) * 1_000_000  # the file has MB/s
                yield Link(devices=(part.device.id, other), kind="xgmi", bandwidth=speed or None)


def _architecture(version: int) -> str:
    """90402 is gfx942, 90010 is gfx90a, 110000 is gfx1100."""
    return f"gfx{version // 10_000}{version // 100 % 100:x}{version % 100:x}"


def _properties(file: Path) -> dict[str, str]:
    pairs = (line.split(maxsplit=1) for line in file.read_text().splitlines())
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _number(file: Path) -> int:
    return int(file.read_text()) if file.exists() else 0
