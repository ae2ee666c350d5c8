"""Main memory, with the limit a container sets."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

import psutil

__all__ = ["Memory", "read"]

CGROUP_V2: Final = Path("/sys/fs/cgroup")
CGROUP_V1: Final = Path("/sys/fs/cgroup/memory")


class Memory(NamedTuple):
    """Bytes this process may use, and bytes free of them now."""

    total: int
    free: int


def read() -> Memory:
    """The smaller of the machine's memory and its control group's."""
    machine = psutil.virtual_memory()
    limit, used = (
        cgroup(CGROUP_V2, "memory.max", "memory.current")
        or cgroup(CGROUP_V1, "memory.limit_in_bytes", "memory.usage_in_bytes")
        or (machine.total, 0)
    )
    if limit >= machine.total:
        return Memory(total=machine.total, free=machine.available)
    return Memory(total=limit, free=max(0, min(machine.available, limit - used)))


def cgroup(root: Path, limit: str, usage: str) -> tuple[int, int] | None:
    """Limit and use in bytes of the control group mounted at ``root``; ``None`` without a limit.

    What is used counts the page cache that the kernel would drop first, so that is taken off.
    """
    try:
        maximum = (root / limit).read_text().strip()
        if maximum == "max":
            return None
        used = int((root / usage).read_text())
        return int(maximum), max(0, used - _inactive_file(root))
    except (OSError, ValueError):
        return None


def _inactive_file(root: Path) -> int:
    for line in (root / "memory.stat").read_text().splitlines():
        key, _, value = line.partition(" ")
        if key in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0
