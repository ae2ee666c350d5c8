"""Offers of engines in this process, for a model whose memory is easy to count."""

from __future__ import annotations

import pytest

from llama4sdk.backend import Capabilities, Need
from llama4sdk.capacity.device_room import DeviceRoom
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.model_facts import ModelFacts, Precision
from llama4sdk.capacity.torch_memory import MemoryKind
from llama4sdk.catalog.models import SCOUT
from llama4sdk.hardware import Device
from llama4sdk.local.offer import (
    LocalModel,
    Setup,
    describe_fewer_tokens,
    fitting_setups,
    insufficient_memory,
    offer_setup,
    unsupported_context,
    unsupported_features,
)
from llama4sdk.plan import Preference
from llama4sdk.quantization import Quantization, QuantizationConfig
from llama4sdk.testing.machines import H100_X1

GPU: Device = H100_X1.devices[0]


class CountedModel(LocalModel):
    """A thousand bytes for each bit of a weight, and one for each token of each conversation."""

    def memory_breakdown(
        self, precision: Precision, context: int, batch: int, memory_kind: MemoryKind
    ) -> dict[str, int]:
        weights = 1000 * QuantizationConfig.of(precision).narrowest.bits
        return {"attention": weights, "kv_cache": context * batch}


@pytest.fixture
def model() -> CountedModel:
    """Scout's facts with that memory."""
    capabilities = Capabilities(features=frozenset({"generate"}))
    return CountedModel(ModelFacts.from_spec(SCOUT), find_engine("torch"), capabilities)


def room(usable: int, *, gpu: bool = False) -> DeviceRoom:
    """A device with so many bytes."""
    return DeviceRoom(device=GPU.id if gpu else "cpu", free=usable, usable=usable, accelerator=GPU if gpu else None)


def best(model: LocalModel, need: Need, *rooms: DeviceRoom) -> Setup:
    """The preferred setup in full precision or int4."""
    choices = [(precision, room) for precision in (Quantization.BF16, Quantization.INT4) for room in rooms]
    return fitting_setups(model, need, choices)[0]


@pytest.mark.parametrize(
    ("prefer", "expected"),
    [
        ("balanced", (Quantization.INT4, GPU.id, 6000)),
        ("quality", (Quantization.BF16, "cpu", 8192)),
        ("speed", (Quantization.INT4, GPU.id, 6000)),
        ("context", (Quantization.INT4, "cpu", 96_000)),
    ],
)
def test_what_is_preferred_decides(
    model: CountedModel, prefer: Preference, expected: tuple[Quantization, str, int]
) -> None:
    """An accelerator comes before bits, bits come first for quality, and tokens where the longest context is wanted."""
    need = Need(prefer=prefer, context_length=6000 if prefer in ("balanced", "speed") else None)
    setup = best(model, need, room(10_000, gpu=True), room(100_000))
    assert (setup.precision, setup.room.device, setup.context) == expected


def test_a_context_is_shortened_before_weights_lose_bits(model: CountedModel) -> None:
    """Where both would make room, precision stays."""
    setup = best(model, Need(), room(17_500))
    assert (setup.precision, setup.context) == (Quantization.BF16, 1024)


def test_an_offer_adds_up(model: CountedModel) -> None:
    """Memory is that of all parts, weights are those of the modules."""
    setup = best(model, Need(batch=2), room(100_000))
    offer = offer_setup(model, setup, Need(batch=2), H100_X1, label="bf16", quantization_reason=None)
    assert offer.memory == {"cpu": 16_000 + 2 * 8192}
    assert (offer.weight_bytes, offer.batch, offer.context_length) == (16_000, 2, 8192)
    assert offer.reason.startswith("bf16 with 2 x 8192 tokens of context takes ")
    assert offer.tokens_per_second


def test_refusals_say_what_would_do(model: CountedModel) -> None:
    """A shorter context, a smaller batch, the context's limit, and the features that are missing."""
    need, largest = Need(context_length=4096, batch=4), room(20_500)
    assert fitting_setups(model, need, [(Quantization.BF16, largest)]) == []
    advice = describe_fewer_tokens(model, Quantization.BF16, need, largest)
    assert advice == "Ask for a context_length of 1024 or a batch of 1."
    refusal = insufficient_memory(model, Quantization.BF16, need, largest, label="in bf16", fix=advice)
    assert (refusal.need_memory, refusal.have_memory) == (16_000 + 4 * 4096, 20_500)
    assert describe_fewer_tokens(model, Quantization.BF16, Need(), room(15_000)) is None
    assert "10485760" in str(unsupported_context(model.facts, Need(context_length=10**8)))
    assert "images" in str(unsupported_features(model, Need(features=frozenset({"images"}))))
    assert unsupported_features(model, Need()) is unsupported_context(model.facts, Need()) is None
