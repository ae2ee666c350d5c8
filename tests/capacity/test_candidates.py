"""Candidates are in the order of what is wanted, and only what can run is among them."""

from __future__ import annotations

from functools import cache

import pytest

from llama4sdk.capacity.candidates import Candidate, candidates, rank
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.ranking import MIN_BITS, MIN_TOKENS_PER_SECOND
from llama4sdk.capacity.sites import whole_network
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import MAVERICK, SCOUT
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Preference

GIB = 2**30


@cache
def predicted(gpus: str, ram: int | None = None) -> tuple[Candidate, ...]:
    return tuple(predict(describe(gpus, ram=ram * GIB if ram else None)))


def predict(machine: Hardware) -> list[Candidate]:
    models = [ModelFacts.from_spec(spec) for spec in (SCOUT, MAVERICK)]
    return list(candidates(models, machine))


def first(gpus: str, prefer: Preference, ram: int | None = None) -> tuple[str, str, str]:
    layout = rank(predicted(gpus, ram), prefer)[0].layout
    return layout.model, layout.precision, layout.kind


@pytest.mark.parametrize(
    ("gpus", "ram", "prefer", "expected"),
    [
        ("8xh100", 1024, "balanced", ("scout", "bf16", "tensor")),
        ("h100", 128, "balanced", ("scout", "int4", "single")),
        ("h100", 128, "quality", ("scout", "Q8_0", "offload")),
        ("4090", 64, "balanced", ("scout", "Q4_K_M", "offload")),
        ("4090", 64, "speed", ("scout", "Q4_K_M", "offload")),
        ("4090", 64, "quality", ("scout", "Q5_K_M", "offload")),
        ("4090", 32, "balanced", ("scout", "Q2_K", "offload")),
        ("2x3090", 128, "balanced", ("scout", "Q4_K_M", "offload")),
        ("4x3090", 256, "balanced", ("scout", "int4", "tensor")),
        ("m4-pro-64gb", None, "balanced", ("scout", "Q2_K", "single")),
        ("m3-max-128gb", None, "balanced", ("scout", "Q5_K_M", "single")),
        ("m3-max-128gb", None, "quality", ("scout", "Q8_0", "cpu")),
        ("none", 128, "balanced", ("scout", "Q4_K_M", "cpu")),
        ("none", 512, "quality", ("scout", "Q8_0", "cpu")),
        ("none", 512, "context", ("scout", "Q4_K_M", "cpu")),
        ("b200", 512, "speed", ("scout", "int4", "single")),
    ],
)
def test_what_is_wanted_comes_first(
    gpus: str, ram: int | None, prefer: Preference, expected: tuple[str, str, str]
) -> None:
    """Four bits at a bearable speed, on accelerators if they have the room, then more; or whichever is asked for."""
    assert first(gpus, prefer, ram) == expected


def test_the_disk_is_the_last_resort_and_a_cramped_context_the_last_but_one() -> None:
    """Also for quality: more bits at a token a second, or with no room for a conversation, are no better."""
    machine = describe("rtx-4090", ram=64 * GIB).model_copy(update={"disk_free": 10**12, "disk_kind": "nvme"})
    ranked = [c.layout for c in rank(predict(machine), "quality")]
    kinds = [layout.kind == "disk" for layout in ranked]
    assert kinds == sorted(kinds)
    assert {True, False} == set(kinds)
    eight_bits = rank(predicted("none", 122), "balanced")
    cramped = [c.layout.context < 8192 for c in eight_bits]
    assert cramped == sorted(cramped)
    assert cramped[-1]


def test_a_slice_has_its_share_of_the_speed() -> None:
    """Half a card's memory comes with half its bandwidth; and one process cannot use two slices."""
    machine = describe("h100", ram=128 * GIB)
    whole = machine.devices[0]
    update = {"total_memory": whole.total_memory // 2, "free_memory": whole.free_memory // 2, "slice": True}
    half = whole.model_copy(update=update)
    cut = machine.model_copy(update={"devices": (half, half.model_copy(update={"index": 1}))})
    key = ("llama.cpp", "Q2_K", "single")
    slow, fast = (
        next(c for c in predict(m) if (c.layout.engine, c.layout.precision, c.layout.kind) == key)
        for m in (cut, machine)
    )
    assert slow.decode is not None
    assert fast.decode is not None
    assert slow.decode.middle == pytest.approx(fast.decode.middle / 2, rel=0.05)
    assert {c.layout.kind for c in predict(cut)} & {"layers", "tensor"} == set()
    offloads = [c for c in predict(cut) if c.layout.kind == "offload"]
    assert offloads
    assert {c.layout.devices for c in offloads} == {("cuda:0", "cpu")}
    alone, all_of_it = (whole_network(m, find_engine("torch"), "cuda:0", "bf16") for m in (cut, machine))
    assert alone is not None
    assert all_of_it is not None
    assert alone.site.bandwidth == pytest.approx(all_of_it.site.bandwidth / 2, rel=0.01)


@pytest.mark.parametrize("gpus", ["t4", "v100", "mi50"])
def test_llama_cpp_unpacks_its_formats_on_old_cards(gpus: str) -> None:
    """Kernels of other engines for int4 need newer ones."""
    verdicts = {
        c.layout.engine: c.layout.support[0] for c in predicted(gpus, 128) if c.layout.kind == "single" and c.bits == 4
    }
    assert verdicts["llama.cpp"] == "native"
    assert verdicts["vLLM"] == {"t4": "native", "v100": "refused", "mi50": "native"}[gpus]
    assert verdicts["torch"] == "no gain"


@pytest.mark.parametrize(
    ("precision", "bits"),
    [("bf16", 16), ("nvfp4", 4), ("int8", 8), ("Q5_K_M", 5), ("IQ3_S as stored", 3), ("mixed as stored", 4)],
)
def test_the_name_of_a_precision_says_how_many_bits_a_weight_has(precision: str, bits: int) -> None:
    """Nearly; a name without a number is taken to mean four."""
    candidate = predicted("none", 122)[0]
    layout = candidate.layout.model_copy(update={"precision": precision})
    assert candidate.model_copy(update={"layout": layout}).bits == bits


@pytest.mark.parametrize("gpus", ["8xh100", "a100", "v100", "2x3090", "mi300x", "m3-max-64gb", "none"])
def test_only_what_can_run_is_ranked(gpus: str) -> None:
    """Candidates that do not fit, or that a device refuses, are kept with the explanation."""
    everything = predicted(gpus, 128)
    usable = rank(everything)
    assert all(c.layout.fits and c.layout.support[0] != "refused" for c in usable)
    assert {id(c) for c in usable} <= {id(c) for c in everything}
    assert any(not c.layout.fits for c in everything)


def test_speed_is_the_first_criterion_where_it_is_asked_for() -> None:
    """Predictions fall along the list, as far as it keeps four bits; it does not go below them for speed alone."""
    ranked = [c for c in rank(predicted("8xh100", 1024), "speed") if c.decode and c.decode.low > MIN_TOKENS_PER_SECOND]
    whole = [c.decode.low for c in ranked if c.decode and c.bits >= MIN_BITS]
    assert whole == sorted(whole, reverse=True)
    fewer = [c.bits < MIN_BITS for c in ranked]
    assert {True, False} == set(fewer)
    assert fewer == sorted(fewer)


def test_a_guess_is_no_faster_for_being_a_guess() -> None:
    """At nearly the same cautious speed what has been measured wins, and then what has more bits."""
    ranked = [c for c in rank(predicted("b200", 512), "balanced") if c.layout.model == "scout"]
    first_guess = next(c for c in ranked if c.layout.engine == "llama.cpp")
    assert (ranked[0].layout.engine, ranked[0].layout.precision, ranked[0].label) == ("vLLM", "fp8", "modelled")
    assert ranked[0].decode is not None
    assert first_guess.decode is not None
    assert first_guess.decode.low > ranked[0].decode.low


@pytest.mark.parametrize(
    "gpus", ["none", "4090", "2x3090", "rtx-6000-ada", "h100", "b200", "8x4090", "m4-pro-64gb", "gb10"]
)
def test_fewer_than_four_bits_are_for_want_of_better(gpus: str) -> None:
    """No default goes there while four bits run at a speed that can be borne, wherever they have to lie."""
    for model in ("scout", "maverick"):
        ranked = [c for c in rank(predicted(gpus, 512), "balanced") if c.layout.model == model]
        bearable = [c for c in ranked if c.bits >= 4 and c.decode and c.decode.low >= MIN_TOKENS_PER_SECOND]
        whole = [c for c in bearable if c.layout.kind != "disk" and c.layout.context >= 8192]
        if ranked and whole:
            assert ranked[0].bits >= MIN_BITS


def test_experts_in_memory_are_slower_than_on_the_card() -> None:
    """By about the ratio of the two memories."""
    offload, single = (
        next(c for c in predicted("h100", 256) if (c.layout.kind, c.layout.precision) == (kind, precision))
        for kind, precision in (("offload", "Q8_0"), ("single", "Q4_K_M"))
    )
    assert offload.decode is not None
    assert single.decode is not None
    assert offload.decode.middle * 5 < single.decode.middle


def test_what_is_not_measured_is_guessed_and_wide() -> None:
    """A processor's memory that nobody measured makes the interval wider; measuring it, narrower."""
    machine = describe("none", ram=512 * GIB)
    measured = machine.model_copy(update={"memory_bandwidth": 60 * 10**9})
    (guess,), (known,) = (
        [c for c in predict(m) if (c.layout.model, c.layout.precision, c.layout.kind) == ("scout", "Q4_K_M", "cpu")]
        for m in (machine, measured)
    )
    assert (guess.label, known.label) == ("guessed", "modelled")
    assert guess.decode is not None
    assert known.decode is not None
    assert guess.decode.low < known.decode.low < known.decode.high < guess.decode.high


def test_an_unknown_accelerator_has_no_predicted_speed() -> None:
    """It may still have the room; and where its driver tells its bandwidth, a speed is guessed from that."""
    machine = describe("h100", ram=128 * GIB)
    unknown = machine.devices[0].model_copy(update={"name": "NVIDIA X1"})
    single = [c for c in predict(machine.model_copy(update={"devices": (unknown,)})) if c.layout.kind == "single"]
    assert any(c.layout.fits for c in single)
    assert all(c.decode is None and c.label == "guessed" for c in single)
    reporting = unknown.model_copy(update={"memory_bandwidth": 3_350_000_000_000})
    guessed = [c for c in predict(machine.model_copy(update={"devices": (reporting,)})) if c.layout.kind == "single"]
    known = [c for c in predict(machine) if c.layout.kind == "single"]
    assert {c.label for c in guessed} == {"guessed"}
    for guess, fact in zip(guessed, known, strict=True):
        assert guess.decode is not None
        assert fact.decode is not None
        assert guess.decode.low == pytest.approx(fact.decode.low, rel=0.2)
