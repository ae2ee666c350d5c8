"""Huge pages for what is read again and again: packed weights, of which each token reads another part.

The processor remembers where few pages are. In pages of 2 MB it finds weights without looking them up first.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["huge_pages"]

HUGE: Final = 2 * 2**20
"""Bytes, on every processor that has pages of 4 kB."""
WANTED: Final = 14
"""``MADV_HUGEPAGE``: the system may put these addresses in huge pages."""
NOW: Final = 25
"""``MADV_COLLAPSE``: it does so at once. Linux 6.1 and newer."""
FILLED: Final = 0.95
"""Of a piece of memory: emptier ones would take more memory in huge pages."""

MAPPING: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *$.*?^Rss: +(\d+) kB$", re.MULTILINE | re.DOTALL)


class _Piece(NamedTuple):
    """Addresses of this process's own memory that belong to no file."""

    begin: int
    end: int


@contextmanager
def huge_pages() -> Iterator[None]:
    """Put what is taken inside, in large pieces, in huge pages afterwards; where the system cannot, nothing happens."""
    before = set(_pieces())
    yield
    for piece in set(_pieces()) - before:
        begin, end = -(-piece.begin // HUGE) * HUGE, piece.end // HUGE * HUGE
        for advice in (WANTED, NOW):
            _advise(begin, end - begin, advice)


def _pieces() -> Iterator[_Piece]:
    """Those that hold a huge page, and are in use."""
    try:
        text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    except OSError:
        return
    for found in MAPPING.finditer(text):
        begin, end, resident = int(found[1], 16), int(found[2], 16), int(found[3]) * 1024
        if end - begin >= 2 * HUGE and resident >= FILLED * (end - begin):
            yield _Piece(begin, end)


def _advise(begin: int, size: int, advice: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), advice)  # it fails without harm
