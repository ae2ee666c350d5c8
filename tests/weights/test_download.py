"""A download is whole or not there, whatever the server and the disk do."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.errors import DownloadError
from llama4sdk.weights.download import download

BODY = bytes(range(256)) * 4096  # 1 MiB
SHA = hashlib.sha256(BODY).hexdigest()
NO_WAITING = (0.0, 0.0, 0.0)


def fetch(server: Any, target: Path, sha256: str = SHA, **options: Any) -> Path:
    return download(f"{server.url}/file", target, sha256=sha256, delays=NO_WAITING, **options)


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "models" / "file.bin"


def test_brings_the_file_and_reports_progress(server: Any, serve: Any, target: Path) -> None:
    """The file arrives whole, the directory is made, progress ends at the total, and no scrap is left."""
    server.files["/file"] = serve(BODY)
    seen: list[tuple[int, int | None]] = []
    assert fetch(server, target, progress=lambda done, total: seen.append((done, total))) == target
    assert target.read_bytes() == BODY
    assert seen[-1] == (len(BODY), len(BODY))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {path.name for path in target.parent.iterdir()} == {"file.bin", "file.bin.lock"}


def test_does_not_ask_again_for_what_is_here(server: Any, target: Path) -> None:
    """A target that exists is returned without any request."""
    target.parent.mkdir()
    target.write_bytes(b"whole")
    assert fetch(server, target) == target
    assert server.requests == []


def test_resumes_where_a_dropped_connection_stopped(server: Any, serve: Any, target: Path) -> None:
    """Two drops cost two more requests, each for the rest only."""
    server.files["/file"] = serve(BODY, drop_after=[300_000, 200_000])
    assert fetch(server, target).read_bytes() == BODY
    assert server.ranges_asked("/file") == [None, "bytes=300000-", "bytes=500000-"]


def test_gives_up_after_bounded_retries_and_keeps_what_came(server: Any, serve: Any, target: Path) -> None:
    """A server that always drops ends in an error that says so; the next call resumes from the part."""
    server.files["/file"] = serve(BODY, drop_after=[100_000] * 4)
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        fetch(server, target)
    assert caught.value.hint is not None
    assert "resumes" in caught.value.hint
    assert not target.exists()
    assert part_of(target).read_bytes() == BODY[:400_000]
    assert fetch(server, target).read_bytes() == BODY
    assert server.ranges_asked("/file")[-1] == "bytes=400000-"


def test_retries_a_server_that_is_busy(server: Any, serve: Any, target: Path) -> None:
    """503 and 429 are tried again."""
    server.files["/file"] = serve(BODY, statuses=[503, 429])
    assert fetch(server, target).read_bytes() == BODY


def test_starts_over_when_the_server_ignores_ranges(server: Any, serve: Any, target: Path) -> None:
    """An answer of 200 to a range request replaces the part instead of being appended to it."""
    server.files["/file"] = serve(BODY, ranges=False, drop_after=[300_000])
    assert fetch(server, target).read_bytes() == BODY


def test_starts_over_when_the_file_changed(server: Any, serve: Any, target: Path) -> None:
    """A part of another version (its ETag differs) is replaced by the new file."""
    server.files["/file"] = serve(b"old" * 1000, etag='"old"', drop_after=[500] * 4)
    with pytest.raises(DownloadError):
        fetch(server, target)
    server.files["/file"] = serve(BODY, etag='"new"')
    assert fetch(server, target).read_bytes() == BODY


def test_a_wrong_part_without_a_version_costs_one_fresh_start(server: Any, serve: Any, target: Path) -> None:
    """Where the server names no version, the hash finds a wrong beginning and the file is fetched anew."""
    target.parent.mkdir()
    part_of(target).write_bytes(b"\0" * 1000)
    server.files["/file"] = serve(BODY, etag=None)
    assert fetch(server, target).read_bytes() == BODY
    assert server.ranges_asked("/file") == ["bytes=1000-", None]


@pytest.mark.parametrize("extra", [b"", b"too long"])
def test_a_part_as_long_as_the_file_or_longer(server: Any, serve: Any, target: Path, extra: bytes) -> None:
    """A complete part needs no more bytes; one that is too long is thrown away."""
    target.parent.mkdir()
    part_of(target).write_bytes(BODY + extra)
    server.files["/file"] = serve(BODY)
    assert fetch(server, target).read_bytes() == BODY
    assert len(server.requests) == (2 if extra else 1)


def test_wrong_bytes_are_removed(server: Any, serve: Any, target: Path) -> None:
    """A file with another hash is an error that names both, and neither file nor part stays."""
    server.files["/file"] = serve(b"not what was promised")
    with pytest.raises(DownloadError, match=SHA) as caught:
        fetch(server, target)
    assert "mirror" in str(caught.value.hint)
    assert {path.name for path in target.parent.iterdir()} == {"file.bin.lock"}


def test_a_missing_file_is_not_retried(server: Any, target: Path) -> None:
    """404 is final, and the error says which address."""
    with pytest.raises(DownloadError, match=r"/file does not exist \(HTTP 404\)"):
        fetch(server, target)
    assert len(server.requests) == 1


def test_no_network(target: Path) -> None:
    """A refused connection is a DownloadError, and a password in the address is not repeated."""
    with pytest.raises(DownloadError, match="cannot be fetched") as caught:
        download("http://user:secret@127.0.0.1:1/file", target, sha256=SHA, delays=())
    assert "secret" not in str(caught.value)


def test_an_address_of_another_kind(target: Path) -> None:
    """What is no HTTP address is refused at once."""
    with pytest.raises(DownloadError, match="cannot be fetched"):
        download("ftp://example.invalid/file", target, sha256=SHA)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(server: Any, serve: Any, target: Path) -> None:
    """ENOSPC while writing is told as such, nothing counts as whole, and a retry with space works."""
    server.files["/file"] = serve(BODY)
    target.parent.mkdir()
    part_of(target).symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="disk is full") as caught:
        fetch(server, target)
    assert caught.value.errno == errno.ENOSPC
    assert not target.exists()
    part_of(target).unlink()
    assert fetch(server, target).read_bytes() == BODY


def test_space_is_checked_before_writing(server: Any, serve: Any, target: Path) -> None:
    """A file larger than the disk is refused with the figures, before a byte of it is written."""
    file = serve(b"")
    file.body = _Huge()
    server.files["/file"] = file
    with pytest.raises(DownloadError, match=r"MB free and \d+ MB are needed") as caught:
        fetch(server, target)
    assert caught.value.errno == errno.ENOSPC
    assert not part_of(target).exists()


class _Huge(bytes):
    """A body that claims four exabytes and holds nothing."""

    def __len__(self) -> int:
        return 1 << 62


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(target: Path) -> None:
    """No permission is a DownloadError with a hint."""
    target.parent.mkdir(mode=0o500)
    with pytest.raises(DownloadError, match="could not be written"):
        download("http://127.0.0.1:1/file", target, sha256=SHA)


def test_a_file_where_the_directory_should_be(target: Path) -> None:
    """A path that cannot be made is a DownloadError with a hint."""
    target.parent.write_text("in the way")
    with pytest.raises(DownloadError, match="could not be written") as caught:
        download("http://127.0.0.1:1/file", target, sha256=SHA)
    assert "LLAMA4SDK_HOME" in str(caught.value.hint)


def start_elsewhere(server: Any, target: Path) -> subprocess.Popen[str]:
    """The same download in another process, which says when the first bytes are there."""
    program = f"""
        from pathlib import Path
        from llama4sdk.weights.download import download
        told = []
        def progress(done, total):
            if total and not told:
                told.append(print("started", flush=True))
        download({server.url + "/file"!r}, Path({str(target)!r}), sha256={SHA!r}, progress=progress)
        print("complete", flush=True)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_download_is_resumed(server: Any, serve: Any, target: Path, number: signal.Signals) -> None:
    """After Ctrl-C or a kill in mid-file, the next run asks for the rest only and ends with the right file."""
    gate = threading.Event()
    server.files["/file"] = serve(BODY, gate=gate)
    with start_elsewhere(server, target) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        _wait_until(lambda: part_of(target).stat().st_size > 0)
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode != 0
    assert not target.exists()
    kept = part_of(target).stat().st_size
    assert 0 < kept < len(BODY)
    gate.set()
    assert fetch(server, target).read_bytes() == BODY
    assert server.ranges_asked("/file")[-1] == f"bytes={kept}-"


def test_two_processes_at_once(server: Any, serve: Any, target: Path) -> None:
    """The second waits for the first, finds the file there, and asks the server for nothing."""
    gate = threading.Event()
    server.files["/file"] = serve(BODY, gate=gate)
    with start_elsewhere(server, target) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "started\n"
        waited: list[int] = []

        def progress(done: int, total: int | None) -> None:
            waited.append(done)
            gate.set()

        fetch(server, target, progress=progress)
        first.communicate(timeout=20)
    assert target.read_bytes() == BODY
    assert first.returncode == 0
    assert waited
    assert len(server.requests) == 1


def _wait_until(ready: Any) -> None:
    pause = threading.Event()
    for _ in range(500):
        if ready():
            return
        pause.wait(0.02)
    raise AssertionError("it never came true")
