"""The memory an engine takes, beside what was planned."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from llama4sdk.backend import Capabilities
from llama4sdk.events import Finish
from llama4sdk.local.memory_meter import STATM, MemoryMeter
from llama4sdk.plan import Placement, Plan
from llama4sdk.requests import Request, SamplingParams

from .bigrams import Bigrams, random_table

IN_A_CHILD = """
import numpy as np
from llama4sdk.capabilities import Capabilities
from llama4sdk.local.memory_meter import MemoryMeter
from llama4sdk.plan import Placement, Plan

MB = 10**6
placement = Placement(kind="local", devices=("cpu",))
plan = Plan(model="demo", backend="torch", placement=placement, context_length=512, capabilities=Capabilities(),
            memory={"cpu": %d * MB})
meter = MemoryMeter(plan)
%s
meter.report()
print(meter.memory.measured["cpu"])
"""


def _measured(planned: int, work: str) -> tuple[int, str]:
    """Bytes seen where ``planned`` MB were planned, and what was warned of.

    In a process of its own: in this one, what other tests left may go while something is measured.
    """
    command = [sys.executable, "-c", IN_A_CHILD % (planned, textwrap.dedent(work))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout), done.stderr.strip()


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells what memory is a process's own")
def test_taking_more_than_was_planned_is_said_once() -> None:
    """The peak is kept when the memory is given back, and past the band one warning names both sizes."""
    seen, warned = _measured(
        100,
        """
        with meter.watching():
            held = np.ones(200 * MB, np.uint8)
        del held
        """,
    )
    assert seen == pytest.approx(200e6, rel=0.05)
    assert warned == ("More memory was taken than planned, by over 10%: 200 MB on cpu, where 100 MB were predicted.")


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells what memory is a process's own")
def test_what_the_program_itself_takes_is_not_the_engines() -> None:
    """Growing and shrinking while the engine rests are left out; what it takes and gives back at work is in."""
    seen, warned = _measured(
        200,
        """
        with meter.watching():
            weights = np.ones(100 * MB, np.uint8)
        theirs = np.ones(400 * MB, np.uint8)
        with meter.working():
            cache = np.ones(50 * MB, np.uint8)
        del theirs
        with meter.working():
            del cache
        with meter.working():
            more = np.ones(20 * MB, np.uint8)
        """,
    )
    assert seen == pytest.approx(150e6, rel=0.05)
    assert not warned


def _on_a_gpu(memory: int) -> Plan:
    placement = Placement(kind="local", devices=("cuda:0",))
    parts = {"experts": memory - 70, "kv_cache": 40, "workspace": 30}
    return Plan(model="demo", backend="torch", placement=placement, context_length=512, capabilities=Capabilities(),
                batch=2, memory={"cuda:0": memory}, breakdown={"cuda:0": parts})  # fmt: skip


def test_an_accelerator_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """The peak is the one its library reports: an engine asks after each answer, and passes it on."""
    peak = 90
    meter = MemoryMeter(_on_a_gpu(100), lambda: peak)
    engine = Bigrams(random_table(), meter=meter)
    for peak in (90, 111, 112):
        *_, finish = engine.stream(Request(prompt="a", sampling=SamplingParams(max_tokens=2)))
        assert isinstance(finish, Finish)
        assert engine.memory().measured == {"cuda:0": peak}
    assert engine.memory().predicted == {"cuda:0": 100}
    assert len([record for record in caplog.records if "were predicted" in record.message]) == 1


def test_an_engine_without_a_meter_tells_nothing() -> None:
    """Neither what was planned nor what was seen."""
    assert not Bigrams(random_table()).memory().measured
