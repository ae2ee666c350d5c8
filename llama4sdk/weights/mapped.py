"""Files that are mapped into memory."""

from __future__ import annotations

import mmap

__all__ = ["release"]


def release(data: mmap.mmap) -> None:
    """Give the memory back that reading has filled, where the system can be told; what is read again comes back."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which trims by itself
        data.madvise(mmap.MADV_DONTNEED)
