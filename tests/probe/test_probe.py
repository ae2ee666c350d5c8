"""The probe reports; it never raises, hangs or changes anything."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Hardware
from llama4sdk.probe import cpu, memory, probe
from llama4sdk.probe.reader import Reader
from llama4sdk.testing.machines import MACHINES


def test_this_machine_is_described() -> None:
    """Cores, memory and disk are real numbers of this machine."""
    found = probe()
    assert 1 <= found.cpu.cores <= (os.cpu_count() or 1)
    assert 0 < found.free_memory <= found.total_memory <= psutil.virtual_memory().total
    assert found.disk_free is None or found.disk_free > 0
    assert found.problems == ()


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_machines_survive_json(name: str, tmp_path: Path) -> None:
    """A machine written by the doctor can be planned for elsewhere, whole or as part of the doctor's report."""
    machine = MACHINES[name]
    path = tmp_path / "machine.json"
    path.write_text(machine.model_dump_json())
    assert Hardware.from_file(path) == machine
    path.write_text(json.dumps({"version": "1", "hardware": machine.model_dump(mode="json")}))
    assert Hardware.from_file(path) == machine


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"hardware": 3}', "\x00", '{"system": "x"}'])
def test_a_file_that_describes_no_machine_is_refused(content: str, tmp_path: Path) -> None:
    """The error names the file and how to write a good one."""
    path = tmp_path / "machine.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"machine\.json.*doctor --json"):
        Hardware.from_file(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """As is a directory."""
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ConfigurationError, match="Cannot read"):
            Hardware.from_file(path)


def test_a_reader_that_hangs_or_raises_becomes_a_problem() -> None:
    """The fallback is used and the cause is told."""
    release = threading.Event()

    def broken() -> int:
        raise OSError("no such bus")

    hung, failed = Reader("a hung driver", lambda: release.wait(30), False), Reader("a bus", broken, 7)
    until = time.monotonic() + 5
    assert (hung.result(0.0), failed.result(until)) == (False, 7)
    assert hung.problem(0.0) == "Could not read a hung driver: it did not answer in time."
    assert failed.problem(until) == "Could not read a bus: OSError: no such bus."
    release.set()


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"memory.max": "max", "memory.current": "5"}, None),
        ({"memory.max": "1000", "memory.current": "600", "memory.stat": "anon 1\ninactive_file 100\n"}, (1000, 500)),
        ({"memory.max": "1000", "memory.current": "600", "memory.stat": "anon 1\n"}, (1000, 600)),
        ({"memory.max": "lots", "memory.current": "600", "memory.stat": ""}, None),
        ({}, None),
    ],
)
def test_a_container_s_limit_is_read(files: dict[str, str], expected: tuple[int, int] | None, tmp_path: Path) -> None:
    """Limit and use, less the page cache that can be dropped; nonsense means no limit."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert memory.cgroup(tmp_path, "memory.max", "memory.current") == expected


def test_cpu_features_are_those_kernels_use() -> None:
    """Names and flags of an x86 and of an Arm processor."""
    x86 = cpu.parse_cpuinfo("model name\t: Xeon\nflags\t: fpu avx2 avx512f amx_tile\n\nmodel name\t: other\n", cores=2)
    assert (x86.name, x86.cores, x86.features) == ("Xeon", 2, ("avx2", "avx512f", "amx_tile"))
    arm = cpu.parse_cpuinfo("processor\t: 0\nFeatures\t: fp asimd sve\n", cores=4)
    assert arm.features == ("asimd", "sve")
