"""The memory an engine takes, beside what was planned."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from llama4sdk.backend import Capabilities
from llama4sdk.events import Finish
from llama4sdk.local.metering import STATM, Meter, request_bytes
from llama4sdk.planning.plan import Placement, Plan
from llama4sdk.requests import Request, SamplingParams

from .bigrams import Bigrams, random_table


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells what memory is a process's own")
def test_taking_more_than_was_planned_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The peak is kept when the memory is given back, and past the band one warning names both sizes."""
    placement = Placement(kind="local", devices=("cpu",))
    plan = Plan(model="demo", backend="torch", placement=placement, context_length=512, capabilities=Capabilities(),
                memory={"cpu": 100 * 10**6})  # fmt: skip
    meter = Meter(plan)
    gc.collect()  # what other tests left is not to go meanwhile
    with meter.watching():
        held = np.ones(200 * 10**6, np.uint8)
    del held
    meter.report()
    assert meter.memory.measured["cpu"] == pytest.approx(200e6, rel=0.05)
    assert [r.message for r in caplog.records if "were predicted" in r.message] == [
        "More memory was taken than planned, by over 10%: 200 MB on cpu, where 100 MB were predicted."
    ]


@pytest.mark.skipif(not STATM.exists(), reason="only Linux tells what memory is a process's own")
def test_what_the_program_itself_takes_is_not_the_engines(caplog: pytest.LogCaptureFixture) -> None:
    """Growing and shrinking while the engine rests are left out; what it takes and gives back at work is in."""
    placement = Placement(kind="local", devices=("cpu",))
    plan = Plan(model="demo", backend="torch", placement=placement, context_length=512, capabilities=Capabilities(),
                memory={"cpu": 200 * 10**6})  # fmt: skip
    meter = Meter(plan)
    gc.collect()  # what other tests left is not to go meanwhile
    with meter.watching():
        weights = np.ones(100 * 10**6, np.uint8)
    theirs = np.ones(400 * 10**6, np.uint8)
    with meter.working():
        cache = np.ones(50 * 10**6, np.uint8)
    del theirs
    with meter.working():
        del cache
    with meter.working():
        more = np.ones(20 * 10**6, np.uint8)
    meter.report()
    assert len(weights) > len(more)
    assert meter.memory.measured["cpu"] == pytest.approx(150e6, rel=0.05)
    assert not caplog.records


def _on_a_gpu(memory: int) -> Plan:
    placement = Placement(kind="local", devices=("cuda:0",))
    parts = {"experts": memory - 70, "kv_cache": 40, "workspace": 30}
    return Plan(model="demo", backend="torch", placement=placement, context_length=512, capabilities=Capabilities(),
                batch=2, memory={"cuda:0": memory}, breakdown={"cuda:0": parts})  # fmt: skip


def test_an_accelerator_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    """What its library says is the peak; an engine asks after each answer, and tells what it heard."""
    peak = 90
    meter = Meter(_on_a_gpu(100), lambda: peak)
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


def test_each_of_a_batch_takes_its_cache_and_its_work_space() -> None:
    """Of the plan's, by equal parts."""
    assert request_bytes(_on_a_gpu(1000)) == 35
    assert request_bytes(_on_a_gpu(1000).model_copy(update={"breakdown": {}})) == 0
