"""A plan of the torch engine and its row in a comparison agree to the byte."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from llama4sdk_torch.backend import TorchBackend

from llama4sdk.backend import Need, Offer
from llama4sdk.capacity.alternatives import as_candidate
from llama4sdk.capacity.candidates import timed
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.layout import Layout
from llama4sdk.capacity.layouts import layouts
from llama4sdk.catalog.models import MAVERICK, SCOUT, ModelSpec
from llama4sdk.cli.model_argument import models_in_question
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan
from llama4sdk.planning.offers import Answer
from llama4sdk.planning.planner import choose
from llama4sdk.planning.policy import Policy
from llama4sdk.registry import Registry
from tests.capacity.fleet import fleet

MACHINES = dict(fleet())
SOME = list(MACHINES.values())[::5]
TORCH = find_engine("torch")
PRECISIONS = ("fp32", *TORCH.precisions)
CONTEXTS = (512, 8192, 131_072)


@pytest.fixture(autouse=True)
def _no_weights_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def rows(spec: ModelSpec, machine: Hardware, precision: str, context: int | None, batch: int) -> dict[str, Layout]:
    (model,) = models_in_question(spec.name)
    possible = layouts(model, TORCH, machine, precision, context=context, batch=batch)
    return {layout.kind: layout for layout in possible}


def need_for(spec: ModelSpec, precision: str, **rest: object) -> Need:
    return Need.model_validate({"model": spec.name, "quantization": precision, **rest})


@pytest.mark.parametrize("spec", [SCOUT, MAVERICK], ids=lambda spec: spec.name)
@pytest.mark.parametrize("batch", [1, 3])
def test_memory_and_whether_it_fits_are_the_same(spec: ModelSpec, batch: int) -> None:
    """On machines of all kinds, in every precision and place, to the byte and class by class."""
    fitting = 0
    for machine, precision, context in itertools.product(SOME, PRECISIONS, CONTEXTS):
        for kind, row in rows(spec, machine, precision, context, batch).items():
            (share,) = row.shares
            need = need_for(spec, precision, context_length=context, batch=batch, device=share.device)
            answer = TorchBackend().offer(need, machine)
            assert isinstance(answer, Offer) is row.fits, (kind, machine, precision, context)
            if isinstance(answer, Offer):
                parts = {str(part): size for part, size in share.weights.items()}
                parts |= {"kv_cache": share.kv, "workspace": share.workspace, "runtime": share.runtime}
                assert answer.breakdown == {share.device: parts}
                fitting += 1
            else:
                assert (answer.need_memory, answer.have_memory) == (share.total, share.room)
    assert fitting > 50


@pytest.mark.parametrize("batch", [1, 3])
def test_the_longest_context_is_the_same(batch: int) -> None:
    """To the token: of the plan that prefers context, and of the row that is given none."""
    reached = set()
    for machine, precision in itertools.product(SOME, TORCH.precisions):
        for row in rows(SCOUT, machine, precision, None, batch).values():
            (device,) = row.devices
            need = need_for(SCOUT, precision, batch=batch, device=device, prefer="context")
            answer = TorchBackend().offer(need, machine)
            assert (answer.context_length if isinstance(answer, Offer) else 0) == (row.context if row.fits else 0)
            reached.add(row.context)
    assert len(reached) > 10


def test_a_plan_as_a_candidate_is_the_row() -> None:
    """With the same bytes, room and speed; so alternatives are measured against what a comparison shows."""
    machine = MACHINES["h100-80gb, 512 GB RAM"]
    need = need_for(SCOUT, "int4", context_length=8192, batch=2)
    answer = Answer(info=Registry.discover().info("torch"), need=need, result=TorchBackend().offer(need, machine))
    plan: Plan = choose([answer], machine, Policy())
    (model,) = models_in_question("scout")
    row = rows(SCOUT, machine, "int4", 8192, 2)["single"]
    candidate = as_candidate(plan, model, machine)
    assert candidate is not None
    assert candidate.layout.shares == row.shares
    assert candidate == timed(row, model, TORCH, machine).model_copy(update={"layout": candidate.layout})
    assert candidate.decode is not None
    assert plan.tokens_per_second == candidate.decode.middle
