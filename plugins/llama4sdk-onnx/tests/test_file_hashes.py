"""Digests of large files are computed once, and again as soon as a file is touched."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from llama4sdk_onnx.file_hashes import stored_digests

from llama4sdk.errors import CheckpointError


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The directory that digests are stored in."""
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def digest(file: Path) -> str:
    """The digest that a new process would give."""
    with stored_digests() as digests:
        return digests.sha256(file, lambda size: None)


def settled(file: Path, data: bytes) -> Path:
    """The file with these bytes, when its times can be trusted."""
    file.write_bytes(data)
    time.sleep(0.15)
    return file


def test_a_file_that_is_untouched_is_not_read_again(tmp_path: Path, home: Path) -> None:
    """A stored digest holds as long as size, times and inode are the same."""
    file = settled(tmp_path / "file", b"data")
    right = hashlib.sha256(b"data").hexdigest()
    assert digest(file) == right
    store = home / "verified-files.json"
    store.write_text(store.read_text(encoding="utf-8").replace(right, "0" * 64), encoding="utf-8")
    assert digest(file) == "0" * 64


def test_a_change_behind_its_time_is_seen(tmp_path: Path) -> None:
    """A file that was changed and given its old time back is read again."""
    file = settled(tmp_path / "file", b"data")
    digest(file)
    before = file.stat()
    file.write_bytes(b"DATA")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digest(file) == hashlib.sha256(b"DATA").hexdigest()


def test_the_digest_of_a_young_file_is_not_stored(tmp_path: Path, home: Path) -> None:
    """A file that may change within the clock's step is read each time."""
    file = tmp_path / "file"
    file.write_bytes(b"data")
    digest(file)
    assert not (home / "verified-files.json").exists()


@pytest.mark.parametrize("text", ["{", '{"a": 1}', '[[1, 2], "x"]'])
def test_a_damaged_store_is_replaced(tmp_path: Path, home: Path, text: str) -> None:
    """Stored digests that cannot be read are dropped, and written anew."""
    home.mkdir()
    (home / "verified-files.json").write_text(text, encoding="utf-8")
    file = settled(tmp_path / "file", b"data")
    assert digest(file) == hashlib.sha256(b"data").hexdigest()
    assert "file" in (home / "verified-files.json").read_text(encoding="utf-8")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """One that is gone is an error of the SDK."""
    with pytest.raises(CheckpointError, match="cannot be read"):
        digest(tmp_path / "gone")
