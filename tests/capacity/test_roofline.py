"""Speeds follow from bytes and operations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from llama4sdk.capacity.engine_profiles import ENGINES
from llama4sdk.capacity.roofline import (
    Calibration,
    NetworkPart,
    Site,
    decode_speed,
    prefill_speed,
    step_bytes,
    token_flops,
)
from llama4sdk.capacity.sites import EVERYTHING, calibrations
from llama4sdk.catalog.models import DEMO, MAVERICK, SCOUT, ModelSpec
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import class_bytes, weight_bytes
from llama4sdk.quantization import Quantization

PERFECT = Calibration(
    engine="none",
    version="0",
    site="accelerator",
    bandwidth=(1, 1),
    compute=(1, 1),
    label="modelled",
    source="a test",
    date="2026-11",
)


def network(spec: ModelSpec) -> TextConfig:
    assert spec.config is not None
    return spec.config


def part(bandwidth: float = 1e12, flops: float = 1e15) -> NetworkPart:
    site = Site(name="a device", bandwidth=int(bandwidth), flops=flops)
    return NetworkPart(modules=EVERYTHING, site=site, calibration=PERFECT)


@pytest.mark.parametrize(("spec", "gigabytes"), [(SCOUT, 32.3), (MAVERICK, 32.3)])
def test_a_token_reads_the_active_weights(spec: ModelSpec, gigabytes: float) -> None:
    """16 of 109 or 402 billion, two bytes each; the whole of every other network."""
    config = network(spec)
    assert step_bytes(config, class_bytes(config, Quantization.BF16), EVERYTHING) / 1e9 == pytest.approx(
        gigabytes, 2e-3
    )
    demo = network(DEMO)
    whole = step_bytes(demo, class_bytes(demo, Quantization.FP32), EVERYTHING)
    assert whole == weight_bytes(demo, Quantization.FP32)  # its embedding is its head


def test_a_batch_shares_all_but_the_experts() -> None:
    """Sixteen tokens choose about ten of sixteen experts; very many choose all."""
    config = network(SCOUT)
    sizes = class_bytes(config, Quantization.BF16)
    alone, shared = (step_bytes(config, sizes, EVERYTHING, tokens=tokens) for tokens in (1, 16))
    distinct = 16 * (1 - (15 / 16) ** 16)
    assert shared - alone == pytest.approx(sizes["experts"] * (distinct - 1) / 16)
    everything = weight_bytes(config, Quantization.BF16) - sizes["embedding"]
    assert step_bytes(config, sizes, EVERYTHING, tokens=10_000) == pytest.approx(everything)


def test_operations_are_two_a_weight_and_attention() -> None:
    """Past one chunk only the twelve global layers see more: 245,760 operations for each token of context."""
    config = network(SCOUT)
    assert token_flops(config, EVERYTHING, 0) / 1e9 == pytest.approx(32.3, rel=2e-3)
    assert token_flops(config, EVERYTHING, 100_001) - token_flops(config, EVERYTHING, 100_000) == 245_760


def test_decoding_is_as_fast_as_memory_and_prefill_as_arithmetic() -> None:
    """On a device that reaches what it is specified for."""
    config = network(SCOUT)
    sizes = class_bytes(config, Quantization.BF16)
    decode = decode_speed(config, sizes, [part()], context=0)
    assert decode.low == decode.high == pytest.approx(1e12 / step_bytes(config, sizes, EVERYTHING))
    assert prefill_speed(config, [part()], tokens=2).middle == pytest.approx(1e15 / token_flops(config, EVERYTHING, 1))


def test_experts_elsewhere_take_their_own_time() -> None:
    """The parts of a step add up, as their layers wait for each other."""
    config = network(SCOUT)
    sizes = class_bytes(config, Quantization.INT4)
    experts = part(2e11).model_copy(update={"modules": frozenset({"experts"})})
    rest = part(7e11).model_copy(update={"modules": EVERYTHING - {"experts"}})
    both = decode_speed(config, sizes, [experts, rest], context=0).middle
    seconds = [1 / decode_speed(config, sizes, [one], context=0).middle for one in (experts, rest)]
    assert 1 / both == pytest.approx(sum(seconds))


@given(
    context=st.integers(0, 10**7),
    batch=st.integers(1, 512),
    quantization=st.sampled_from([Quantization.BF16, Quantization.INT8, Quantization.INT4]),
)
def test_more_work_is_never_faster(context: int, batch: int, quantization: Quantization) -> None:
    """A longer context slows every answer; a larger batch slows each and speeds all together."""
    config = network(MAVERICK)
    sizes = class_bytes(config, quantization)
    here, farther, fuller = (
        decode_speed(config, sizes, [part()], context=c, batch=b).middle
        for c, b in ((context, batch), (context + 1000, batch), (context, batch + 1))
    )
    assert farther <= here
    assert fuller / (batch + 1) <= here / batch * (1 + 1e-9)
    assert fuller >= here * (1 - 1e-9)


def test_every_engine_has_a_calibration_for_every_place_it_runs_in() -> None:
    """For weights in any scheme; and each says since when and from where it is known."""
    whole = {(c.engine, c.site) for c in calibrations() if not c.schemes}
    for engine in ENGINES:
        sites = {"accelerator", "unified"} | ({"cpu"} if "cpu" in engine.layouts else set())
        assert sites <= {site for name, site in whole if name == engine.name}
    assert all(c.source and c.date <= "2026-11" for c in calibrations())


@pytest.mark.parametrize(
    "change",
    [{"bandwidth": (0, 0.5)}, {"bandwidth": (0.5, 0.4)}, {"compute": (0.5, 1.1)}, {"date": "lately"}, {"overhead": -1}],
)
def test_a_calibration_that_cannot_be_true_is_refused(change: dict[str, object]) -> None:
    """Nothing reaches more than all of what a machine is specified for."""
    with pytest.raises(ValidationError):
        Calibration.model_validate(PERFECT.model_dump() | change)
