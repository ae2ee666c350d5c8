"""The disk that weights are stored on: free space and kind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from llama4sdk.hardware import DiskKind

MOUNTS: Final = Path("/proc/self/mountinfo")
BLOCKS: Final = Path("/sys/dev/block")
NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "ceph", "lustre", "glusterfs", "9p", "virtiofs", "beegfs"})


class Disk(NamedTuple):
    """Free bytes and kind of a disk."""

    free: int | None = None
    kind: DiskKind | None = None


def read(path: Path) -> Disk:
    """The disk under ``path``, which need not exist yet."""
    while not path.exists():
        path = path.parent
    number = path.stat().st_dev
    return Disk(free=shutil.disk_usage(path).free, kind=disk_kind(os.major(number), os.minor(number)))


def disk_kind(major: int, minor: int, *, mounts: Path = MOUNTS, blocks: Path = BLOCKS) -> DiskKind | None:
    """The kind of disk with this device number; ``None`` where the system does not say."""
    if not mounts.exists():
        return None
    system = _file_system(mounts.read_text(errors="replace"), f"{major}:{minor}")
    if system in NETWORK or system.startswith("fuse."):
        return "network"
    if system in ("tmpfs", "ramfs"):
        return "memory"
    block = blocks / f"{major}:{minor}"
    if not block.exists():
        return None
    disk = block.resolve()
    if (disk / "partition").exists():
        disk = disk.parent
    if disk.name.startswith("nvme"):
        return "nvme"
    rotational = disk / "queue" / "rotational"
    virtual = disk.name.startswith(("vd", "xvd"))  # a hypervisor's rotational flag is meaningless
    return None if virtual or not rotational.exists() else "hdd" if rotational.read_text().strip() == "1" else "ssd"


def _file_system(mounts: str, number: str) -> str:
    """The type of the file system with this device number."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2:3] == [number]:
            return after.split()[0]
    return ""
