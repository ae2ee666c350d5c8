"""Huge pages hold what was there, and take no memory that was not in use."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from llama4sdk_onnx.huge_pages import huge_pages

THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")
SIZE = 64 * 2**20


def mapping_bytes(array: np.ndarray[tuple[int], np.dtype[np.uint8]], field: str) -> int:
    """A field of the mapping that the middle of an array is in, in bytes."""
    address = array.ctypes.data + array.nbytes // 2
    for part in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE):
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", part)
        if head and int(head[1], 16) <= address < int(head[2], 16):
            return int(re.findall(rf"^{field}: +(\d+) kB", part, re.MULTILINE)[0]) * 1024
    raise AssertionError("no such mapping")


@pytest.fixture
def require_huge_pages() -> None:
    """Skip where the system has no such pages, or not on demand."""
    if not THP.exists() or "[never]" in THP.read_text():
        pytest.skip("no huge pages here")


@pytest.mark.usefixtures("require_huge_pages")
def test_memory_that_is_allocated_inside_lies_in_huge_pages() -> None:
    """Nearly all of it, with the values that it had."""
    with huge_pages():
        values = np.arange(SIZE, dtype=np.uint32).astype(np.uint8)
    assert mapping_bytes(values, "AnonHugePages") > 0.9 * SIZE
    assert np.array_equal(values, np.arange(SIZE, dtype=np.uint32).astype(np.uint8))


@pytest.mark.usefixtures("require_huge_pages")
def test_empty_memory_takes_no_pages() -> None:
    """A buffer of which one page was written takes no more than that page, in a process with nothing beside it."""
    code = (
        "import numpy\n"
        "from llama4sdk.local.memory_meter import own_memory\n"
        "from llama4sdk_onnx.huge_pages import huge_pages\n"
        "before = own_memory()\n"
        "with huge_pages():\n"
        f"    values = numpy.empty({SIZE}, numpy.uint8)\n"
        f"    values[{SIZE // 2}] = 1\n"
        "print(own_memory() - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 8 * 2**20


def test_nothing_happens_where_mappings_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other systems have no such file."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    with huge_pages():
        values = np.ones(SIZE, np.uint8)
    assert values.all()
