"""Whatever does not fit says what would have to give, and each remedy keeps its promise."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scorecard.old_engines import find_profile
from llama4sdk.capacity.engine_profiles import ENGINES, EngineProfile, find_engine
from llama4sdk.capacity.kernel_support import KERNELS, support
from llama4sdk.capacity.layout import Layout, class_bytes
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.remedies import Remedy, find_remedies, mac_gpu_remedy
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import MAVERICK, SCOUT, ModelSpec
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig

GIB = 2**30


def model(spec: ModelSpec = SCOUT) -> ModelFacts:
    return ModelFacts.from_spec(spec)


def given_up(gpus: str, engine: str, precision: str, context: int, kind: str) -> tuple[Layout, tuple[Remedy, ...]]:
    """The layout of this kind, and what it would take."""
    machine, profile = describe(gpus, ram=64 * GIB), find_engine(engine)
    layout = next(
        remedies for remedies in layouts(model(), profile, machine, precision, context=context) if remedies.kind == kind
    )
    return layout, find_remedies(model(), profile, machine, layout)


def test_the_cheapest_remedy_comes_first() -> None:
    """Scout in nvfp4 on a B200 with a context that only a smaller cache holds."""
    failed, remedies = given_up("b200", "vLLM", "nvfp4", 2_500_000, "single")
    assert not failed.fits
    assert [c.what for c in remedies] == ["cache", "context", "devices"]
    assert remedies[0].text == "a cache in 8 bits holds 2,500,000 tokens"
    assert remedies[1].layout is not None
    assert 1_500_000 < remedies[1].layout.context < 2_500_000


def test_a_table_of_requests_can_be_smaller() -> None:
    """SGLang's ten million tokens on eight H200: by default the table alone takes 80 GiB of each."""
    failed, remedies = given_up("8xh200", "SGLang", "bf16", 10_000_000, "tensor")
    assert not failed.fits
    assert remedies[0].what == "requests"
    assert remedies[0].text == "at most 64 requests at once: 10,000,000 tokens"


def test_fewer_bits_and_more_devices() -> None:
    """Scout in bf16 on one H100 lacks most of its weights: nvfp4 or fp8 would do, or four of them."""
    failed, offered = given_up("h100", "vLLM", "bf16", 8192, "single")
    assert failed.missing > 100e9
    remedies = {c.what: c.text for c in offered}
    assert remedies["precision"].startswith("nvfp4: 69.")
    assert remedies["devices"] == "4 of H100 SXM5 80GB"
    assert "context" not in remedies


def test_where_nothing_helps_memory_does() -> None:
    """How much is said to the byte."""
    failed, remedies = given_up("none", "llama.cpp", "Q2_K", 10_485_760, "cpu")
    assert [c.what for c in remedies] == ["context"]
    machine = describe("none", ram=2 * GIB)
    (cpu,) = (at for at in layouts(model(MAVERICK), find_engine("llama.cpp"), machine, "Q2_K") if at.kind == "cpu")
    (last,) = find_remedies(model(MAVERICK), find_engine("llama.cpp"), machine, cpu)
    assert (last.what, last.layout) == ("memory", None)
    assert "more on cpu" in last.text
    assert failed.missing > 0


@settings(max_examples=25, deadline=None)
@given(
    engine=st.sampled_from(ENGINES),
    gpus=st.sampled_from(["h100", "2xa100", "4090", "3x3090", "8xh100", "v100", "mi300x", "m3-max-64gb", "none"]),
    spec=st.sampled_from([SCOUT, MAVERICK]),
    context=st.sampled_from([1, 8192, 10**6, 10**7]),
    data=st.data(),
)
def test_every_failure_has_a_remedy_that_works(
    engine: EngineProfile, gpus: str, spec: ModelSpec, context: int, data: st.DataObject
) -> None:
    """A remedy reaches what it claims, leaves the rest as it was, and is not offered where the plan fits."""
    precision = data.draw(st.sampled_from(engine.precisions))
    machine = describe(gpus, ram=128 * GIB).model_copy(update={"disk_free": 10**11})
    for layout in layouts(model(spec), engine, machine, precision, context=context):
        remedies = find_remedies(model(spec), engine, machine, layout)
        assert bool(remedies) != layout.usable
        for remedy in remedies:
            reached = remedy.layout
            assert remedy.text
            if reached is None:
                continue
            assert reached.usable
            assert (reached.context == context) != (remedy.what == "context")
            assert (reached.precision == precision) != (remedy.what == "precision")
            assert (reached.kv_bytes == layout.kv_bytes) != (remedy.what == "cache")


@pytest.mark.parametrize(
    ("gpu", "precision", "verdict", "remedy"),
    [
        ("a100", "fp8", "no gain", "int8 is native there, in 111.7 GB"),
        ("h100", "nvfp4", "no gain", "fp8 is native there, in 111.7 GB"),
        ("t4", "nvfp4", "no gain", "int8 is native there, in 111.7 GB"),
        ("mi355x", "nvfp4", "refused", "fp8 is native there, in 111.7 GB"),
        ("mi300x", "int4", "native", ""),
        ("mi50", "fp8", "refused", "int8 is native there"),
        ("v100", "fp8", "refused", "fp16 is native there"),
        ("h100", "fp8", "native", ""),
        ("b300", "int8", "no gain", "fp8 is native there"),
        ("v100", "bf16", "no gain", "fp16 is native there"),
        ("a100", "int4_mixed", "native", ""),
    ],
)
def test_verdicts_come_with_what_would_be_better(gpu: str, precision: str, verdict: str, remedy: str) -> None:
    """A format that a device only unpacks, or refuses, and the nearest it calculates in, with its size."""
    profile = find_engine("vLLM")
    (layout,) = (f for f in layouts(model(), profile, describe(gpu), precision, context=1) if f.kind == "single")
    assert layout.support[0] == verdict
    assert layout.remedy.startswith(remedy)
    assert bool(layout.remedy) == (verdict != "native")


@pytest.mark.parametrize(
    ("engine", "version", "gpu", "scheme", "verdict"),
    [
        ("vLLM", "0.8.3", "h100", "fp4", "refused"),
        ("vLLM", "0.12", "h100", "fp4", "no gain"),
        ("vLLM", "0.8.3", "a100", "fp8", "refused"),
        ("vLLM", "0.14", "t4", "int4", "refused"),
        ("vLLM", "0.8.3", "mi300x", "int4", "refused"),
        ("vLLM", "0.8.3", "h100", "fp8", "native"),
        ("SGLang", "0.5", "a100", "fp8", "refused"),
        ("SGLang", "0.5", "a100", "fp4", "no gain"),
        ("SGLang", "0.5", "mi300x", "fp8", "native"),
        ("llama.cpp", "b11434", "v100", "gguf", "native"),
        ("torch", "0.1", "h100", "fp8", "no gain"),
        ("torch", "0.1", "v100", "int4", "no gain"),
        ("torch", "0.1", "h100", "bf16", "native"),
        ("transformers", "5", "v100", "int4", "refused"),
    ],
)
def test_what_is_unpacked_is_up_to_the_engine(engine: str, version: str, gpu: str, scheme: str, verdict: str) -> None:
    """And to its version: its kernels are written for some devices, some formats, and at some time."""
    profile = find_profile(engine, version)
    support_there = support(describe(gpu).devices[0], scheme, profile)
    assert support_there.verdict == verdict
    assert support_there.reason


def test_of_every_kernel_it_is_said_how_it_is_known() -> None:
    """A source for each; and those of one engine are not told twice."""
    assert all(kernel.source for kernel in KERNELS)
    keys = [(kernel.engine, kernel.since, scheme) for kernel in KERNELS for scheme in kernel.schemes]
    assert len(keys) == len(set(keys))


def test_a_mac_s_gpu_may_have_more() -> None:
    """Where what macOS lends it is what is lacking, the command that raises it, with the number; and it is enough."""
    machine, engine = describe("m2-ultra-192gb"), find_engine("llama.cpp")
    every = list(layouts(model(MAVERICK), engine, machine, "Q2_K", context=8192))
    failed, cpu = (next(layout for layout in every if layout.kind == kind) for kind in ("single", "cpu"))
    (limit,) = (c for c in find_remedies(model(MAVERICK), engine, machine, failed) if c.what == "limit")
    assert limit.text == "let the GPU have 197.6 GB of 206.2 GB: sudo sysctl iogpu.wired_limit_mb=188416"
    assert limit.layout is not None
    assert limit.layout.kind == "single"
    assert limit.layout.shares[0].total <= machine.free_memory
    assert mac_gpu_remedy(model(MAVERICK), engine, machine, cpu) == (limit,)
    assert mac_gpu_remedy(model(MAVERICK), engine, machine, limit.layout) == ()
    longest = next(at for at in layouts(model(MAVERICK), engine, machine, "Q2_K") if at.kind == "cpu")
    assert longest.context > 500_000
    assert [c.text for c in mac_gpu_remedy(model(MAVERICK), engine, machine, longest)] == [limit.text]
    large = next(layouts(model(MAVERICK), engine, machine, "Q4_K_M", context=8192))
    assert "limit" not in {c.what for c in find_remedies(model(MAVERICK), engine, machine, large)}


def test_each_class_of_modules_has_its_own_verdict() -> None:
    """An A100 unpacks fp8 attention without gain, int4 experts as it should, and calculates in bf16."""
    config = QuantizationConfig(attention=Quantization.FP8, experts=Quantization.INT4)
    verdicts = {part: support(describe("a100").devices[0], config.scheme(part)) for part in get_args(ModuleClass)}
    assert {part: verdict.verdict for part, verdict in verdicts.items() if verdict.verdict != "native"} == {
        "attention": "no gain"
    }
    assert verdicts["attention"].instead == "int8"


def test_published_mixes_quantize_what_they_do() -> None:
    """Meta's the routed experts alone, which makes Maverick's fp8 416.6 GB; bitsandbytes all but those."""
    sizes = {mix: class_bytes(model(), mix) for mix in ("bf16", "fp8_mixed", "int4_mixed", "bnb-4bit")}
    assert sizes["fp8_mixed"]["attention"] == sizes["int4_mixed"]["attention"] == sizes["bf16"]["attention"]
    assert sizes["bnb-4bit"]["experts"] == sizes["bf16"]["experts"]
    assert sizes["bnb-4bit"]["attention"] < sizes["bf16"]["attention"] / 3
    assert sum(class_bytes(model(MAVERICK), "fp8_mixed").values()) / 1e9 == pytest.approx(416.6, rel=0.005)
