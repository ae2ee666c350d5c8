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
from typing import Final, NamedTuple

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


class _Mapping(NamedTuple):
    """The first and the last address, exclusive, of memory of this process that belongs to no file."""

    begin: int
    end: int


@contextmanager
def huge_pages() -> Iterator[None]:
    """Move large memory that is allocated inside to huge pages afterwards, where the system has these on demand."""
    before = set(_filled_mappings())
    yield
    for mapping in set(_filled_mappings()) - before:
        begin = -(-mapping.begin // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
        end = mapping.end // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
        for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):
            _advise(begin, end - begin, advice)


def _filled_mappings() -> Iterator[_Mapping]:
    """The mappings that hold a huge page for certain, and are in use; none on other systems than Linux."""
    try:
        text = Path("/proc/self/smaps").read_text(encoding="utf-8")
    except OSError:
        return
    for match in MAPPING.finditer(text):
        begin, end, resident = int(match[1], 16), int(match[2], 16), int(match[3]) * 1024
        if end - begin >= 2 * HUGE_PAGE_BYTES and resident >= MIN_FILLED_SHARE * (end - begin):
            yield _Mapping(begin, end)


def _advise(begin: int, size: int, advice: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), advice)  # a refusal does no harm
