"""The probe reports; it never raises, hangs or changes anything."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
from pathlib import Path

import psutil
import pytest

from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Cpu, Hardware
from llama4sdk.probe import cpu, memory, probe
from llama4sdk.probe.bounded_read import Reader
from llama4sdk.testing.machines import MACHINES


def test_this_machine_is_described() -> None:
    """Cores, memory and disk are real numbers of this machine."""
    hardware = probe()
    assert 1 <= hardware.cpu.cores <= (os.cpu_count() or 1)
    assert 0 < hardware.free_memory <= hardware.total_memory <= psutil.virtual_memory().total
    assert hardware.disk_free is None or hardware.disk_free > 0
    assert hardware.problems == ()


CARD = {"kind": "cuda", "index": 0, "name": "x", "total_memory": 2**36, "free_memory": 2**35}


@pytest.mark.parametrize("name", sorted(MACHINES))
def test_machines_survive_json(name: str, tmp_path: Path) -> None:
    """A machine written by the doctor can be loaded again, whole or from the doctor's report."""
    machine = MACHINES[name]
    path = tmp_path / "machine.json"
    path.write_text(machine.model_dump_json())
    assert Hardware.from_file(path) == machine
    path.write_text(json.dumps({"version": "1", "hardware": machine.model_dump(mode="json")}))
    assert Hardware.from_file(path) == machine


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"hardware": 3}', "\x00", '{"system": "x"}', "[" * 100_000, " " * (16 * 2**20 + 1)]
)
def test_a_file_that_describes_no_machine_is_refused(content: str, tmp_path: Path) -> None:
    """The error names the file and how to write a good one."""
    path = tmp_path / "machine.json"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"machine\.json.*doctor --json"):
        Hardware.from_file(path)


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"free_memory": -5}, "free_memory is -5"),
        ({"free_memory": 65 * 2**30}, "and must be from 0 to"),
        ({"total_memory": 10**30}, "total_memory is"),
        ({"cpu": {"name": "x", "cores": 0}}, "cpu.cores is 0"),
        ({"memory_bandwidth": 0}, "memory_bandwidth is 0"),
        ({"devices": [CARD, CARD]}, "there are 2 devices cuda:0"),
        ({"devices": [CARD | {"index": n} for n in range(1025)]}, "the number of devices is 1025"),
        ({"devices": [CARD | {"free_memory": 2**40}]}, "devices.0.free_memory is"),
        ({"devices": [CARD | {"power_limit": math.nan}]}, "devices.0.power_limit is nan"),
        ({"devices": [CARD | {"compute_capability": [-9, 0]}]}, "devices.0.compute_capability is -9"),
        ({"links": [{"devices": ["cuda:0", "cuda:1"], "kind": "nvlink"}]}, "which are not two of its devices"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(part: dict[str, object], words: str, tmp_path: Path) -> None:
    """Absurd sizes, duplicate devices and links to nowhere are refused by name."""
    machine = {"system": "x", "cpu": {"name": "x", "cores": 4}, "total_memory": 64 * 2**30, "free_memory": 2**30}
    path = tmp_path / "machine.json"
    path.write_text(json.dumps(machine | part))
    with pytest.raises(ConfigurationError, match=re.escape(words)):
        Hardware.from_file(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le"])
def test_a_machine_is_read_in_every_encoding_of_unicode(encoding: str, tmp_path: Path) -> None:
    """A file is read in every Unicode encoding that a shell's redirection writes."""
    path = tmp_path / "machine.json"
    path.write_text(MACHINES["h100-x8"].model_dump_json(), encoding=encoding)
    assert Hardware.from_file(path) == MACHINES["h100-x8"]


def test_names_are_what_can_be_shown() -> None:
    """Names lose control characters and excess length."""
    machine = Hardware(
        system="x", cpu=Cpu(name="a\x1b[2Jb\nc\ud800", cores=1), total_memory=0, free_memory=0, problems=("n" * 9999,)
    )
    assert machine.cpu.name == "a [2Jb c "
    assert len(machine.problems[0]) == 500
    assert Hardware.model_validate_json(machine.model_dump_json()) == machine


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    """A missing file, or a directory, is refused."""
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(ConfigurationError, match="Cannot read"):
            Hardware.from_file(path)


def test_a_reader_that_hangs_or_raises_becomes_a_problem() -> None:
    """The fallback is used and the cause reported."""
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
    """Limit and usage without page cache that can be dropped; invalid files mean no limit."""
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert memory.cgroup_limit(tmp_path, "memory.max", "memory.current") == expected


def test_cpu_features_are_those_kernels_use() -> None:
    """Name and flags of an x86 and of an Arm processor."""
    x86 = cpu.parse_cpuinfo("model name\t: Xeon\nflags\t: fpu avx2 avx512f amx_tile\n\nmodel name\t: other\n", cores=2)
    assert (x86.name, x86.cores, x86.features) == ("Xeon", 2, ("avx2", "avx512f", "amx_tile"))
    arm = cpu.parse_cpuinfo("processor\t: 0\nFeatures\t: fp asimd sve\n", cores=4)
    assert arm.features == ("asimd", "sve")
