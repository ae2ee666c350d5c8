"""Implausible values are dropped and reported, whatever a reader returns."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pynvml
import pytest

from llama4sdk.diagnostics.facts import gather
from llama4sdk.diagnostics.report import examine
from llama4sdk.hardware import Cpu, Device
from llama4sdk.probe import cpu, disk, memory, probe
from llama4sdk.probe.disk import Disk
from llama4sdk.probe.memory import Memory
from tests.probe.nvml import Card, Library, installed

NAN: Any = float("nan")
GB = 10**9


@pytest.mark.parametrize(
    ("module", "lie", "words"),
    [
        (memory, Memory(total=-5, free=1), "claims -5 bytes of memory"),
        (memory, Memory(total=NAN, free=NAN), "claims nan bytes of memory"),
        (memory, Memory(total=2**64, free=1), "bytes of memory: how much"),
        (memory, Memory(total=8 * GB, free=9 * GB), "bytes free of 8000000000: none is counted on"),
        (memory, Memory(total=8 * GB, free=NAN), "claims nan bytes free"),
        (memory, Memory(total=8 * GB, free=-1), "claims -1 bytes free"),
        (cpu, Cpu(name="x", cores=0), "claims 0 cores: one is assumed"),
        (cpu, Cpu(name="x", cores=10**9), "claims 1000000000 cores"),
        (disk, Disk(free=-1), "claims -1 free bytes"),
        (disk, Disk(free=NAN), "claims nan free bytes"),
    ],
)
def test_a_reader_that_lies(monkeypatch: pytest.MonkeyPatch, module: Any, lie: Any, words: str) -> None:
    """The doctor works with any implausible values, and reports them."""
    monkeypatch.setattr(module, "read", lambda *_: lie)
    hardware = probe()
    assert any(words in problem for problem in hardware.problems)
    assert 0 <= hardware.free_memory <= hardware.total_memory <= 2**50
    assert 1 <= hardware.cpu.cores <= 2**16
    report = examine(gather())
    assert any(words in check.text for check in report.checks)


@pytest.mark.parametrize(
    ("card", "words", "expected"),
    [
        (Card(total=0, free=0), "cuda:0 claims 0 bytes of memory", 0),
        (Card(total=2**63, free=1), "cuda:0 claims 9223372036854775808 bytes of memory: it is left out", 0),
        (Card(total=80 * GB, free=90 * GB), "cuda:0 claims 90000000000 bytes free of 80000000000", 1),
        (Card(free=2**64 - 1), "cuda:0 claims 18446744073709551615 bytes free", 1),
    ],
)
def test_a_driver_that_lies(card: Card, words: str, expected: int) -> None:
    """A card of impossible size is left out; impossibly much free memory counts as none."""
    with installed(Library(cards=(card,))):
        hardware = probe()
    assert any(words in problem for problem in hardware.problems)
    assert [device.free_memory for device in hardware.devices] == [0] * expected


@pytest.mark.parametrize("count", [-1, 257, 2**31 - 1])
def test_absurdly_many_cards_are_not_counted(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """An absurd number of cards is not iterated over."""
    with installed(Library(cards=(Card(),))):
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: count)
        hardware = probe()
    assert hardware.devices == ()
    assert hardware.problems == (f"The NVIDIA driver claims {count} GPUs: none is counted on.",)


def test_values_that_are_no_numbers_are_dropped() -> None:
    """Power and bandwidth that are no finite numbers are dropped."""
    from llama4sdk.probe.sanity import plausible_devices

    device = Device(kind="cuda", index=0, name="x", total_memory=GB, free_memory=0, power_limit=NAN, processes=-3)
    (expected,) = plausible_devices([device.model_copy(update={"host_bandwidth": -1})], [])
    assert (expected.power_limit, expected.host_bandwidth, expected.processes) == (None, None, 0)


@pytest.mark.parametrize(("claimed", "expected"), [(0, None), (1, None), (-GB, None), (2**60, None), (10**12, 10**12)])
def test_a_bandwidth_that_no_memory_has_is_dropped(claimed: int, expected: int | None) -> None:
    """An implausible bandwidth is dropped."""
    from llama4sdk.probe.sanity import plausible_devices

    device = Device(kind="cuda", index=0, name="x", total_memory=GB, free_memory=0, memory_bandwidth=claimed)
    assert plausible_devices([device], [])[0].memory_bandwidth == expected


HANGING = """
import sys, time
import pynvml
from llama4sdk import weights
from llama4sdk.probe import amd, apple, cpu, disk, memory, software

def hang(*_, **__):
    time.sleep({seconds})
    {after}

for module, name in {readers}:
    setattr(module, name, hang)
sys.argv = ["llama4sdk", "doctor"]
from llama4sdk.cli import main
main()
"""

EVERY = """(
    (pynvml, "nvmlInit"), (amd, "read"), (apple, "read"), (cpu, "read"), (disk, "read"), (memory, "read"),
    (software, "runtimes"), (software, "credentials"), (software, "outdated"), (weights, "locate"),
)"""


@pytest.mark.parametrize(
    ("readers", "seconds", "after"),
    [
        ('((pynvml, "nvmlInit"),)', 30, "pass"),
        (EVERY, 30, "pass"),
        (EVERY, 0, "raise OSError('no such bus')"),
        (EVERY, 0, "raise SystemError"),
    ],
)
def test_the_doctor_outlives_its_readers(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, readers: str, seconds: int, after: str
) -> None:
    """With readers that hang or fail, the report comes in time and without a traceback."""
    monkeypatch.setenv("LLAMA4SDK_PLUGINS", "echo")
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path))
    program = HANGING.format(readers=readers, seconds=seconds, after=after)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "Could not read GPUs through NVML" in " ".join(done.stdout.split())
    assert "What this machine can run" in done.stdout
