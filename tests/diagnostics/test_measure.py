"""Measuring gives plausible figures, and leaves nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.diagnostics import measure
from llama4sdk.diagnostics.measure import disk_bandwidth, host_bandwidths, memory_bandwidth
from llama4sdk.testing.machines import H100_X1, LAPTOP

MIB = 2**20


@pytest.mark.skipif(sys.platform == "win32", reason="no memcmp to be found by name")
@pytest.mark.parametrize("threads", [1, 3])
def test_memory_is_read(threads: int) -> None:
    """The memory's speed lies between an old laptop's and the largest server's."""
    speed = memory_bandwidth(threads=threads, nbytes=48 * MIB, seconds=0.05)
    assert speed is not None
    assert 1e8 < speed < 1e13


def test_no_memory_gives_no_figure() -> None:
    """Without a free block for each thread there is no figure."""
    assert memory_bandwidth(threads=4, nbytes=MIB) is None


@pytest.mark.skipif(sys.platform == "win32", reason="the cache cannot be passed")
def test_the_disk_is_read_and_left_as_it_was(tmp_path: Path) -> None:
    """A missing directory is made, and the file that was read is removed."""
    home = tmp_path / "home"
    speed = disk_bandwidth(home, nbytes=8 * MIB)
    assert speed is not None
    assert speed > 1e6
    assert not any(home.iterdir())


def test_a_full_or_forbidden_disk_gives_no_figure(tmp_path: Path) -> None:
    """A disk that cannot be written gives no figure and no error."""
    (tmp_path / "file").write_text("")
    assert disk_bandwidth(tmp_path / "file", nbytes=8 * MIB) is None
    assert disk_bandwidth(tmp_path, nbytes=1000) is None


@pytest.mark.parametrize("where", ["os.fsync", "_drop_from_cache", "_write_random"])
def test_an_interruption_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Ctrl-C at any step leaves no file."""

    def interrupted(*_: Any) -> int:
        raise KeyboardInterrupt

    target = f"{measure.__name__}.{where}" if where.startswith("_") else where
    monkeypatch.setattr(target, interrupted)
    with pytest.raises(KeyboardInterrupt):
        disk_bandwidth(tmp_path, nbytes=8 * MIB)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("child", "expected"),
    [
        ("print('noise'); print('{\"0\": 25000000000, \"9\": 1}')", {"cuda:0": 25 * 10**9}),
        ("raise SystemExit(1)", {}),
        ("print('no JSON')", {}),
        ("", {}),
    ],
)
def test_links_are_measured_by_a_child(monkeypatch: pytest.MonkeyPatch, child: str, expected: dict[str, int]) -> None:
    """The speeds of links come from a child process; one that fails gives none."""
    from llama4sdk.hardware import Runtime

    machine = H100_X1.model_copy(update={"runtimes": (Runtime(name="torch", version="2.9", build="cuda 12.8"),)})
    monkeypatch.setattr(measure, "GPU_PROGRAM", child)
    assert host_bandwidths(machine) == expected
    assert host_bandwidths(H100_X1) == {}


def test_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is announced; a machine without GPUs has no links to measure."""
    monkeypatch.setattr(measure, "MEMORY_SECONDS", 0.05)
    steps: list[str] = []
    machine = LAPTOP.model_copy(update={"free_memory": 128 * MIB, "disk_free": 64 * MIB})
    measured = measure.measure_machine(machine, tmp_path, step=steps.append)
    assert steps == ["memory", "disk"]
    assert measured.devices == {}
    assert not any(tmp_path.iterdir())
