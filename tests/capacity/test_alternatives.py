"""Engines that are not installed are named where they would do better than the plan, and only there."""

from __future__ import annotations

import pytest

from llama4sdk.backend import Capabilities
from llama4sdk.capacity.alternatives import alternatives, as_candidate, plan_weight_bytes
from llama4sdk.capacity.candidates import Candidate
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.torch_memory import MemoryKind, memory_breakdown
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import DEMO, MAVERICK, SCOUT, ModelSpec
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan, Preference
from llama4sdk.quantization import Quantization, QuantizationConfig

GIB = 2**30


def model(spec: ModelSpec) -> ModelFacts:
    return ModelFacts.from_spec(spec)


BOTH = [model(SCOUT), model(MAVERICK)]


def a_plan(
    spec: ModelSpec = SCOUT,
    *,
    backend: str = "torch",
    device: str = "cuda:0",
    context: int = 8192,
    batch: int = 1,
    scheme: Quantization | QuantizationConfig = Quantization.INT4,
) -> Plan:
    assert spec.config is not None
    memory_kind: MemoryKind = "cpu" if device == "cpu" else "accelerator"
    vision = spec.vision_parameters
    parts = memory_breakdown(spec.config, scheme, context, batch=batch, memory_kind=memory_kind, vision=vision)
    return Plan(
        model=spec.name,
        backend=backend,
        placement=Placement(kind="local", devices=(device,)),
        quantization=scheme,
        context_length=context,
        batch=batch,
        capabilities=Capabilities(),
        memory={device: sum(parts.values())},
        breakdown={device: parts},
        weight_bytes=spec.weight_bytes(scheme),
    )


def better_engines(
    plan: Plan | None, machine: Hardware, *, prefer: Preference = "balanced", installed: tuple[str, ...] = ("torch",)
) -> dict[str, Candidate]:
    shown = alternatives(plan, BOTH, machine, installed=installed, prefer=prefer)
    return {candidate.layout.engine: candidate for candidate in shown}


def test_full_precision_on_eight_cards_is_better_than_four_bits_on_one() -> None:
    """VLLM and SGLang would split bf16 over all eight; they are named before llama.cpp, for they keep more bits."""
    shown = better_engines(a_plan(), describe("8xh100"))
    assert list(shown) == ["vLLM", "SGLang", "llama.cpp"]
    assert shown["vLLM"].layout.precision == "bf16"
    assert len(shown["vLLM"].layout.devices) == 8


def test_what_is_installed_is_no_alternative() -> None:
    """An engine whose backend is here has made its offer."""
    assert list(better_engines(a_plan(), describe("8xh100"), installed=("torch", "vllm-server"))) == [
        "SGLang",
        "llama.cpp",
    ]


def test_what_is_worse_is_not_shown() -> None:
    """Full precision on one card leaves others nothing to gain but speed, and llama.cpp not even that."""
    assert "llama.cpp" not in better_engines(a_plan(scheme=Quantization.BF16), describe("b300"))


def test_a_shorter_context_is_no_alternative() -> None:
    """With 200,000 tokens asked of one card, four bits of llama.cpp's leave no room for them; vLLM's do."""
    assert set(better_engines(a_plan(context=100_000), describe("h100"))) == {"llama.cpp", "vLLM"}
    assert set(better_engines(a_plan(context=200_000), describe("h100"))) == {"vLLM"}


@pytest.mark.parametrize("plan", [None, a_plan(DEMO)])
def test_anything_is_better_than_nothing(plan: Plan | None) -> None:
    """Where there is no plan, or only the demo, each engine shows the best it has."""
    shown = better_engines(plan, describe("rtx-4090", ram=64 * GIB))
    assert {name: c.layout.kind for name, c in shown.items()} == {"llama.cpp": "offload"}


def test_an_echo_has_no_alternative() -> None:
    """A backend that does not say what it holds cannot be compared."""
    assert better_engines(a_plan(backend="echo"), describe("8xh100")) == {}


def test_a_plan_as_a_layout_holds_every_byte() -> None:
    """As the backend breaks them down."""
    machine, plan = describe("h100"), a_plan()
    candidate = as_candidate(plan, BOTH[0], machine)
    assert candidate is not None
    (share,) = candidate.layout.shares
    assert sum(share.weights.values()) == SCOUT.weight_bytes(Quantization.INT4)
    assert share.kv == 48 * 2 * 8 * 128 * 2 * 8192
    parts = {str(part): size for part, size in share.weights.items()}
    parts |= {"kv_cache": share.kv, "workspace": share.workspace, "runtime": share.runtime}
    assert parts == plan.breakdown["cuda:0"]
    assert share.total == plan.memory["cuda:0"]
    assert share.room == int(machine.devices[0].free_memory * 0.98)


def test_weights_that_a_file_has_in_codes_weigh_what_the_backend_says() -> None:
    """To the byte, class by class; of a plan over several devices all of them."""
    plan = a_plan()
    parts = plan.breakdown["cuda:0"] | {"experts": 50_123_456_789}
    size = sum(parts.values())
    two = {"memory": {"cuda:0": size, "cuda:1": size}, "breakdown": {"cuda:0": parts, "cuda:1": parts}}
    sizes = plan_weight_bytes(plan.model_copy(update=two))
    assert sizes["experts"] == 2 * 50_123_456_789
    assert sizes.keys() == parts.keys() - {"kv_cache", "workspace", "runtime"}


def test_a_plan_that_says_too_little_is_no_candidate() -> None:
    """Nothing is made up of what a backend does not break down."""
    assert as_candidate(a_plan().model_copy(update={"breakdown": {}}), BOTH[0], describe("h100")) is None


def test_a_scheme_for_each_class_is_counted_by_class() -> None:
    """Experts in four bits beside attention in eight."""
    mixed = QuantizationConfig(experts=Quantization.INT4, attention=Quantization.INT8)
    size = SCOUT.weight_bytes(mixed)
    candidate = as_candidate(a_plan(scheme=mixed), BOTH[0], describe("h200"))
    assert candidate is not None
    assert sum(candidate.layout.shares[0].weights.values()) == size
    assert candidate.bits == 4
