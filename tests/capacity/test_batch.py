"""Several conversations at once: memory for each, speed for all together, and a clear word where there is no room."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llama4sdk import Client
from llama4sdk.backend import BackendInfo, Capabilities, Need, Offer
from llama4sdk.capacity.alternatives import alternatives
from llama4sdk.capacity.candidates import timed
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.explanation import explain
from llama4sdk.capacity.layout import Layout
from llama4sdk.capacity.layout_builder import total_at
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.remedies import find_remedies
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import SCOUT
from llama4sdk.errors import ConfigurationError, InsufficientMemoryError, NoBackendError
from llama4sdk.plan import Placement, Plan
from llama4sdk.planning import planner
from llama4sdk.planning.offers import Answer
from llama4sdk.planning.policy import Policy
from tests.capacity.test_alternatives import BOTH, a_plan, model

H100 = describe("h100")


@pytest.fixture(autouse=True)
def _no_weights_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))


def planned(batch: int, context: int | None = 8192) -> Plan:
    with Client(
        "scout", device="cuda", hardware=H100, quantization="int4", context_length=context, batch=batch
    ) as client:
        return client.plan()


def single(engine: str, precision: str, batch: int, context: int | None = 8192) -> Layout:
    possible = layouts(model(SCOUT), find_engine(engine), H100, precision, context=context, batch=batch)
    return next(layout for layout in possible if layout.kind == "single")


def test_memory_counts_each_conversation() -> None:
    """So many caches; weights, runtime and work space once, but for the logits of each."""
    one, four = (planned(batch).breakdown["cuda:0"] for batch in (1, 4))
    for part, size in one.items():
        if part == "workspace":
            assert size < four[part] < 1.1 * size
        else:
            assert four[part] == size * (4 if part == "kv_cache" else 1)
    assert planned(4).batch == 4
    assert "batch: 4 conversations at once because it was asked for" in planned(4).explain()
    assert "4 x 8192 tokens" in planned(4).explain()


def test_a_batch_that_has_no_room_says_how_many_have() -> None:
    """The number that is named fits, and one more does not."""
    with pytest.raises(InsufficientMemoryError, match="400 x 512") as caught:
        planned(400, context=512)
    assert caught.value.need > caught.value.have
    named = re.search(r"a batch of (\d+)", str(caught.value.hint))
    assert named is not None
    fits = int(named[1])
    assert planned(fits, context=512).batch == fits
    with pytest.raises(InsufficientMemoryError):
        planned(fits + 1, context=512)


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2", True])
def test_a_batch_is_a_number_of_conversations(batch: object) -> None:
    """Anything else is refused before any work."""
    with pytest.raises(ConfigurationError, match="batch is") as caught:
        Client("scout", batch=batch)  # type: ignore[arg-type]
    assert caught.value.hint


def test_speed_is_that_of_all_answers_together() -> None:
    """In steps that they share, answers gain by what need not be read again."""
    vllm, torch = ("vLLM", "int4"), ("torch", "int4")
    speeds = {
        (engine, batch): timed(single(engine, precision, batch), model(SCOUT), find_engine(engine), H100).decode
        for engine, precision in (vllm, torch)
        for batch in (1, 4)
    }
    for engine in ("vLLM", "torch"):
        alone, together = speeds[engine, 1], speeds[engine, 4]
        assert alone is not None
        assert together is not None
        assert alone.high < together.high < 4 * alone.high
    one, four = planned(1).tokens_per_second, planned(4).tokens_per_second
    assert one is not None
    assert four is not None
    assert one < four < 4 * one


def test_the_explanation_says_whose_numbers_they_are() -> None:
    """Caches of all, and speed of all."""
    shown = explain(a_plan(batch=4), model(SCOUT), H100)
    notes = {figure.what: figure.note for section in shown.sections for figure in section.figures}
    assert notes["keys and values"] == "of 4 x 8,192 tokens"
    assert notes["answering"].startswith("4 answers together")
    values = {figure.what: figure.value for section in shown.sections for figure in section.figures}
    assert values["4 x 8,192 tokens"] == values["keys and values"] == 4 * 48 * 4096 * 8192


def test_alternatives_have_room_for_the_batch() -> None:
    """Each of them for as many, with the context of each."""
    shown = alternatives(None, BOTH, describe("8xh100"), installed=("torch",), context=131_072, batch=8)
    assert {candidate.layout.batch for candidate in shown} == {8}
    assert all(candidate.layout.context == 131_072 for candidate in shown)
    assert shown


def test_fewer_at_once_is_a_remedy() -> None:
    """With the number that it reaches."""
    failed = single("torch", "int4", 50)
    assert not failed.fits
    first = find_remedies(model(SCOUT), find_engine("torch"), H100, failed)[0]
    assert (first.what, first.layout is not None and first.layout.fits) == ("batch", True)
    assert first.layout is not None
    assert first.text == f"{first.layout.batch} at once, not 50"
    assert not single("torch", "int4", first.layout.batch + 1).fits


@pytest.mark.parametrize("engine", ["torch", "vLLM", "llama.cpp", "SGLang"])
def test_a_curve_of_memory_is_what_plans_would_say(engine: str) -> None:
    """At every context, work space included: what is drawn of one layout is what another one takes."""
    profile = find_engine(engine)
    precision = profile.precisions[-1]
    drawn = single(engine, precision, 2, 8192)
    for context in (512, 600, 8192, 100_000):
        (share,) = single(engine, precision, 2, context).shares
        assert total_at(context, drawn, drawn.shares[0], model(SCOUT), profile) == share.total - share.kv


@pytest.mark.parametrize(("memory", "refused"), [({"cpu": 10**9}, True), ({}, False)])
def test_an_offer_that_counts_one_is_no_offer_for_two(memory: dict[str, int], refused: bool) -> None:
    """A backend that counts memory and says nothing of a batch counted one; one without memory bounds nobody."""
    info = BackendInfo(name="other", cls="other:Backend", summary="Another.", capabilities=Capabilities())
    offer = Offer(
        model="scout",
        placement=Placement(kind="local", devices=("cpu",)),
        context_length=8192,
        memory=memory,
        reason="it can",
    )
    answer = Answer(info=info, need=Need(model="scout", batch=2), result=offer)
    if refused:
        with pytest.raises(NoBackendError, match="one conversation at a time") as caught:
            planner.choose([answer], H100, Policy())
        assert "batch of 1" in str(caught.value.hint)
    else:
        assert planner.choose([answer], H100, Policy()).batch is None
