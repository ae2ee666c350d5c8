"""Main memory, with the limits a container sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import psutil

CGROUP_V2: Final = Path("/sys/fs/cgroup")
CGROUP_V1: Final = Path("/sys/fs/cgroup/memory")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")


class Memory(NamedTuple):
    """Bytes this process may use, bytes free of them now, bytes the machine has, free swap and all swap."""

    total: int = 0
    free: int = 0
    installed: int = 0
    swap: int = 0
    total_swap: int = 0


def read() -> Memory:
    """The machine's memory, or the tightest limit of the control groups this process is in."""
    machine = psutil.virtual_memory()
    total, free = machine.total, machine.available
    for limit, used in limits():
        if limit < machine.total:
            total, free = min(total, limit), min(free, max(0, limit - used))
    swap = psutil.swap_memory()
    return Memory(total=total, free=free, installed=machine.total, swap=swap.free, total_swap=swap.total)


def limits(*, v2: Path = CGROUP_V2, v1: Path = CGROUP_V1, own: Path = OWN_CGROUPS) -> Iterator[tuple[int, int]]:
    """Limit and usage in bytes of each limited control group, from this process's own up to the root."""
    groups = dict(_groups(own))
    for root, group, files in (
        (v2, groups.get(""), ("memory.max", "memory.current")),
        (v1, groups.get("memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")),
    ):
        folder = root / (group or "").lstrip("/")
        while folder != root.parent:
            if limit := cgroup_limit(folder, *files):
                yield limit
            folder = folder.parent


def _groups(own: Path) -> Iterator[tuple[str, str]]:
    """Controller and path, such as ``memory`` and ``/docker/1f``; the controller is empty in version 2."""
    try:
        text = own.read_text()
    except OSError:
        return
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path.removeprefix("/..")


def cgroup_limit(group: Path, limit: str, usage: str) -> tuple[int, int] | None:
    """Limit and usage in bytes of one control group; ``None`` without a limit.

    Usage excludes the page cache that the kernel would drop first.
    """
    try:
        maximum = (group / limit).read_text().strip()
        if maximum == "max":
            return None
        used = int((group / usage).read_text())
        return int(maximum), max(0, used - _inactive_file(group))
    except (OSError, ValueError):
        return None


def _inactive_file(group: Path) -> int:
    fields = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
    return int(fields.get("inactive_file") or fields.get("total_inactive_file") or 0)
