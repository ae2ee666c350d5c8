"""Offers of exports on machines nobody here owns."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from llama4sdk_onnx.manifest import FileRecord, Manifest
from llama4sdk_onnx.offer import ExportedModel, make_offer

from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog import models
from llama4sdk.hardware import Hardware, Runtime
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig
from llama4sdk.testing.machines import CRAMPED, GPU_24GB, H100_X1, LAPTOP, MAC_64GB, machine

WEIGHTS = 200 * 10**6


def exported(
    quantization: str = "int4/fp32", *, config: TextConfig | None = None, weights: int = WEIGHTS, **changes: object
) -> ExportedModel:
    """An export of the demo model, as its manifest describes it."""
    config = config or models.DEMO.config
    record = FileRecord(size=weights // 2, sha256="0" * 64)
    files = {"model.onnx": FileRecord(size=10**5, sha256="1" * 64), "weights/a.bin": record, "weights/b.bin": record}
    fields = {
        "made_by": "llama4sdk-onnx 0.1.0", "model": "demo", "source": "GGUF demo.gguf", "kind": "fast", "opset": 21,
        "onnxruntime": "1.31.0", "quantization": QuantizationConfig.of(quantization), "config": config,
        "fingerprint": "f", "stop_ids": (2,), "temperature": 0.6, "top_p": 0.9, "files": files,
    }  # fmt: skip
    manifest = Manifest.model_validate(fields | changes)
    facts = ModelFacts(
        name="demo",
        config=manifest.config,
        precision=manifest.quantization,
        source=Path("/exports/demo"),
        calls_tools=True,
    )
    return ExportedModel(facts, manifest)


def offer(model: ExportedModel, hardware: Hardware = LAPTOP, **need: object) -> Offer:
    """The offer; fails when there is none."""
    answer = make_offer(model, Need.model_validate({"model": "demo"} | need), hardware)
    assert isinstance(answer, Offer), answer
    return answer


def refusal(model: ExportedModel, hardware: Hardware = LAPTOP, **need: object) -> Unavailable:
    """The refusal; fails when there is an offer."""
    answer = make_offer(model, Need.model_validate({"model": "demo"} | need), hardware)
    assert isinstance(answer, Unavailable), answer
    assert answer.fix
    return answer


def with_runtime(hardware: Hardware, *builds: tuple[str, str]) -> Hardware:
    """The machine with these distributions of ONNX Runtime installed."""
    runtimes = tuple(Runtime(name=name, version=version) for name, version in builds)
    return hardware.model_copy(update={"runtimes": runtimes})


def test_an_export_is_offered_as_it_is() -> None:
    """The manifest's quantization, the usual context, and memory that adds up to weights, cache, work and runtime."""
    answer = offer(exported())
    assert answer.source == "/exports/demo"
    assert answer.placement.devices == ("cpu",)
    assert answer.quantization == QuantizationConfig.of("int4/fp32")
    assert answer.context_length == 8192
    parts = answer.breakdown["cpu"]
    assert answer.memory == {"cpu": sum(parts.values())}
    assert answer.weight_bytes == WEIGHTS == sum(parts.get(part, 0) for part in get_args(ModuleClass))
    assert models.DEMO.config is not None
    assert parts["kv_cache"] == kv_cache_bytes(models.DEMO.config, 8192, value_bytes=4)
    assert "int4" in answer.reason
    assert answer.tokens_per_second is not None


@pytest.mark.parametrize("name", ["int4/fp32", "int8/fp32", "fp32", "int4/fp16"])
def test_a_quantization_is_kept_or_refused(name: str) -> None:
    """A requested quantization is offered where the export has it, by its scheme or in full."""
    model = exported(name)
    scheme = Quantization(name.partition("/")[0])
    assert offer(model, quantization=scheme).quantization is scheme
    exact = QuantizationConfig.of(name)
    assert offer(model, quantization=exact).quantization == exact
    other = refusal(model, quantization=QuantizationConfig.of("int8/bf16"))
    assert name in other.reason
    assert "export" in str(other.fix)


def test_vision_weights_stand_apart() -> None:
    """Files of the vision network are its own class, and nothing is counted twice."""
    files = {name: FileRecord(size=10**6, sha256="0" * 64) for name in ("weights/a.bin", "weights/vision-000.bin")}
    parts = offer(exported(files=files)).breakdown["cpu"]
    assert parts["vision"] == 10**6
    assert sum(parts.get(part, 0) for part in get_args(ModuleClass)) == 2 * 10**6


def test_mixtures_are_told_from_the_rest() -> None:
    """Of Scout the routed experts are nearly all, of which a token reads one in sixteen: so it is fast."""
    answer = offer(exported(config=models.SCOUT.config, weights=60 * 10**9), machine(memory=2**38))
    assert answer.breakdown["cpu"]["experts"] > 45 * 10**9
    dense = offer(exported(weights=60 * 10**9), machine(memory=2**38))
    assert (answer.tokens_per_second or 0.0) > 4 * (dense.tokens_per_second or 0.0)


def test_little_memory_means_a_shorter_context() -> None:
    """The cache shrinks before the export is refused; a context that was asked for is not shortened."""
    enough = sum(offer(exported(), context_length=2048).memory.values())
    small = machine(memory=2 * enough, free=int(enough / 0.95) + 1000)
    assert offer(exported(), small).context_length == 2048
    assert "a context_length of 2048" in str(refusal(exported(), small, context_length=8192).fix)
    assert "a batch of" in str(refusal(exported(), small, context_length=512, batch=64).fix)
    answer = refusal(exported(), CRAMPED)
    assert answer.have_memory == int(CRAMPED.free_memory * 0.95)
    assert (answer.need_memory or 0) > WEIGHTS


def test_the_longest_context_can_be_preferred() -> None:
    """``prefer="context"`` gives all that has room, to the token."""
    scout = exported(config=models.SCOUT.config)
    small = machine(memory=16 * 2**30, free=9 * 10**9)
    longest = offer(scout, small, prefer="context")
    assert longest.context_length > 8192
    assert refusal(scout, small, context_length=longest.context_length + 1).need_memory


def test_a_batch_takes_a_cache_for_each() -> None:
    """Four conversations at once take four caches."""
    one, four = (offer(exported(), context_length=1024, batch=batch) for batch in (1, 4))
    assert four.breakdown["cpu"]["kv_cache"] == 4 * one.breakdown["cpu"]["kv_cache"]
    assert four.batch == 4


def test_contexts_beyond_the_networks_are_refused() -> None:
    """The demo was made for 8192 tokens."""
    assert "8192" in refusal(exported(), context_length=9000).reason


def test_a_gpu_is_used_by_exports_that_calculate_as_it_can() -> None:
    """Activations in fp16 go to the GPU; in fp32 its attention cannot, and is told what to export."""
    assert offer(exported("int4/fp16"), GPU_24GB).placement.devices == ("cuda:0",)
    assert offer(exported("int4/fp32"), GPU_24GB).placement.devices == ("cpu",)
    answer = refusal(exported("int4/fp32"), GPU_24GB, device="cuda")
    assert "fp16" in answer.reason
    assert "-q int4/fp16" in str(answer.fix)
    assert "-q fp16" in str(refusal(exported("fp32"), GPU_24GB, device="cuda").fix)
    assert offer(exported("fp32", kind="portable"), GPU_24GB).placement.devices == ("cuda:0",)
    assert offer(exported("int4/fp16"), GPU_24GB, device="cpu").placement.devices == ("cpu",)


def test_the_installed_build_decides_what_can_be_used() -> None:
    """A build for processors leaves GPUs alone, and says what to install instead when one is asked for."""
    cpu_only = with_runtime(H100_X1, ("onnxruntime", "1.31.1"))
    assert offer(exported("int4/fp16"), cpu_only).placement.devices == ("cpu",)
    answer = refusal(exported("int4/fp16"), cpu_only, device="cuda:0")
    assert "onnxruntime" in answer.reason.lower().replace(" ", "")
    assert "llama4sdk-onnx[gpu]" in str(answer.fix)
    full = with_runtime(H100_X1, ("onnxruntime-gpu", "1.31.1"))
    assert offer(exported("int4/fp16"), full, device="cuda").placement.devices == ("cuda:0",)


def test_devices_that_are_not_there_or_not_driven_are_refused() -> None:
    """A GPU the machine lacks, and Apple's, are named with what there is instead."""
    assert "cuda:7" in refusal(exported("int4/fp16"), GPU_24GB, device="cuda:7").reason
    assert "cpu" in str(refusal(exported(), MAC_64GB, device="mps").fix)


def test_an_older_runtime_is_not_taken() -> None:
    """An export names the oldest version that knows its operators."""
    old = with_runtime(LAPTOP, ("onnxruntime", "1.23.2"))
    answer = refusal(exported(), old)
    assert "1.23.2" in answer.reason
    assert "onnxruntime>=1.31.0" in str(answer.fix)
    assert offer(exported(onnxruntime="1.20"), old)


def test_portable_graphs_write_their_caches_anew() -> None:
    """Inputs and outputs exist at the same time."""
    fast, portable = (offer(exported("fp32", kind=kind)).breakdown["cpu"]["kv_cache"] for kind in ("fast", "portable"))
    assert portable == 2 * fast
