"""A plan's numbers add up, are those of the spec, and each says how far it can be trusted."""

from __future__ import annotations

import pytest

from llama4sdk.capacity.explanation import Explanation, Figure, explain
from llama4sdk.capacity.roofline import Interval
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import DEMO, SCOUT
from llama4sdk.hardware import Cpu, Hardware
from llama4sdk.quantization import Quantization
from tests.capacity.test_alternatives import a_plan, model


def scout(context: int = 8192) -> Explanation:
    return explain(a_plan(context=context), model(SCOUT), describe("h100"), imagined=True)


def figures(explanation: Explanation, title: str) -> dict[str, Figure]:
    return {
        figure.what: figure for section in explanation.sections if section.title == title for figure in section.figures
    }


def test_memory_adds_up() -> None:
    """Classes are the weights; with cache, work space and runtime they are all; with what is left, what is free."""
    memory = figures(scout(), "Memory on cuda:0")
    size = {what: figure.value for what, figure in memory.items() if isinstance(figure.value, int)}
    classes = list(size)[: list(size).index("all weights")]
    assert sum(size[name] for name in classes) == size["all weights"] == SCOUT.weight_bytes(Quantization.INT4)
    assert size["in all"] == sum(size[part] for part in ("all weights", "keys and values", "work space", "runtime"))
    assert size["free"] == size["in all"] + size["left"]
    assert all(memory[name].label == "exact" for name in [*classes, "all weights", "keys and values"])
    assert memory["work space"].label == "modelled"
    assert memory["free"].label == "guessed"


def test_a_probed_machine_is_measured() -> None:
    """The free memory is that of the described machine."""
    shown = figures(explain(a_plan(), model(SCOUT), describe("h100")), "Memory on cuda:0")
    assert shown["free"].label == "measured"


def test_keys_and_values_are_those_of_the_logs() -> None:
    """At 131,072 tokens: 7.2 GiB where chunks are known, 24 GiB in vLLM 0.14, with the switch."""
    shown = figures(scout(131_072), "Keys and values of 131,072 tokens, by engine")
    assert shown["llama4sdk-torch, all"].value == 12 * 4096 * 131_072 + 36 * 4096 * 8192
    old = shown["vLLM, up to at least 0.14"]
    assert old.value == 24 * 2**30
    assert "VLLM_ALLOW_CHUNKED_LOCAL_ATTN" in old.note
    per_token = figures(scout(), "Keys and values")
    assert per_token["a token in 12 global layers"].value == 12 * 4096
    assert per_token["a token in 36 local layers"].value == 36 * 4096


def test_the_roofline_names_its_calibration() -> None:
    """The speed is the bytes read for a token over the reached bandwidth, plus the time a step takes besides."""
    speed = figures(scout(), "Speed")
    reached = speed["of which is reached"]
    assert reached.note.startswith("torch 0.1: ")
    assert isinstance(reached.value, Interval)
    assert isinstance(speed["answering"].value, Interval)
    read, cache, bandwidth = (
        speed[what].value for what in ("weights read for a token", "cache read for a token", "bandwidth")
    )
    assert not isinstance(read, Interval)
    assert not isinstance(cache, Interval)
    assert not isinstance(bandwidth, Interval)
    bound = bandwidth * reached.value.high / (read + cache)
    assert 0.5 * bound < speed["answering"].value.high < bound


def test_an_unmeasured_processor_says_so() -> None:
    """A bandwidth that nobody measured is a guess, with the command that measures it; a measured one is not."""
    machine = describe("none").model_copy(update={"cpu": Cpu(name="c", cores=8)})
    plan = a_plan(DEMO, device="cpu", scheme=Quantization.FP32)

    def speed(machine: Hardware) -> dict[str, Figure]:
        return figures(explain(plan, model(DEMO), machine), "Speed")

    guess = speed(machine)
    assert not {"bandwidth", "of which is reached"} & set(guess)  # a share of a guess could be more than all
    assert guess["bandwidth reached"].label == "guessed"
    assert isinstance(guess["bandwidth reached"].value, Interval)
    measured = speed(machine.model_copy(update={"memory_bandwidth": 5 * 10**10}))
    assert (measured["bandwidth"].label, measured["bandwidth"].value) == ("measured", 5 * 10**10)


@pytest.mark.parametrize(("name", "bandwidth"), [("m3-max-64gb", 400), ("gb10", 273), ("ryzen-ai-max", 256)])
def test_a_shared_pool_is_as_fast_for_the_processor(name: str, bandwidth: int) -> None:
    """Its bandwidth is specified, of which a processor reaches a part, and what was measured goes before it."""
    machine, plan = describe(name), a_plan(DEMO, device="cpu", scheme=Quantization.FP32)
    speed = figures(explain(plan, model(DEMO), machine), "Speed")
    assert (speed["bandwidth"].label, speed["bandwidth"].value) == ("exact", bandwidth * 10**9)
    reached = speed["of which is reached"]
    assert isinstance(reached.value, Interval)
    assert (reached.label, 0 < reached.value.low < reached.value.high <= 1) == ("guessed", True)
    measured = explain(plan, model(DEMO), machine.model_copy(update={"memory_bandwidth": 10**11}))
    assert figures(measured, "Speed")["bandwidth"].value == 10**11


def test_a_network_without_chunks_has_one_cache() -> None:
    """The demo keeps everything everywhere, so engines do not differ."""
    plan = a_plan(DEMO, device="cpu", scheme=Quantization.FP32)
    titles = [section.title for section in explain(plan, model(DEMO), describe("none")).sections]
    assert titles == ["Memory on cpu", "Keys and values", "Speed"]


def test_what_is_not_modelled_is_said_whatever_the_plan() -> None:
    """Also of a backend that says nothing."""
    shown = explain(a_plan(backend="echo"), None, describe("none"))
    assert shown.sections == ()
    assert "speculative decoding" in shown.not_modelled
