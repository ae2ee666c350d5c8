"""Huge pages for packed weights, of which each token reads another part.

A processor caches the addresses of few pages. In pages of 2 MB it finds weights without looking their addresses up,
which makes decoding 4 to 12% faster (``docs/benchmarks.md``).
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

#: Bytes of a huge page on every processor whose other pages have 4 kB.
HUGE_PAGE_BYTES: Final = 2 * 2**20

#: ``madvise``: the system may put these addresses in huge pages.
MADV_HUGEPAGE: Final = 14

#: ``madvise``: the system does so at once, from Linux 6.1 on.
MADV_COLLAPSE: Final = 25

#: The share of a mapping that is in use: emptier ones would take more memory in huge pages.
MIN_FILLED_SHARE: Final = 0.95

#: An anonymous private mapping in ``/proc/self/smaps``: its addresses and its resident size.
MAPPING: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) rw-p \S+ \S+ 0 *$.*?^Rss: +(\d+) kB$", re.MULTILINE | re.DOTALL)


@contextmanager
def huge_pages() -> Iterator[None]:
    """Move large memory that is allocated inside to huge pages afterwards, where the system has these on demand."""
    before = set(_filled_mappings())
    yield
    for begin, end in set(_filled_mappings()) - before:
        first = -(-begin // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
        size = end // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES - first
        for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):  # a refusal does no harm
            ctypes.CDLL(None).madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), advice)


def _filled_mappings() -> Iterator[tuple[int, int]]:
    """Addresses [begin, end) of memory that belongs to no file, holds a huge page for certain, and is in use.

    None on other systems than Linux.
    """
    if sys.platform != "linux":
        return
    try:
        text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    except OSError:
        return
    for match in MAPPING.finditer(text):
        begin, end, resident = int(match[1], 16), int(match[2], 16), int(match[3]) * 1024
        if end - begin >= 2 * HUGE_PAGE_BYTES and resident >= MIN_FILLED_SHARE * (end - begin):
            yield begin, end
