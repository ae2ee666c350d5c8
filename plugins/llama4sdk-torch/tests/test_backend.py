"""Offers for machines nobody here owns, and loading what was planned."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import get_args

import pytest
import torch
from llama4sdk_torch import CAPABILITIES, llama4sdk_backends
from llama4sdk_torch.backend import TorchBackend

from llama4sdk import Client
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.capacity.torch_memory import UNPACKING_BYTES, memory_breakdown
from llama4sdk.catalog import models
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.errors import CheckpointError, ModelLoadError, WeightsNotFoundError
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.plan import Placement, Plan
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig
from llama4sdk.testing.machines import CRAMPED, GPU_24GB, H100_X1, H100_X8, LAPTOP, MAC_64GB, machine

from .reference import MAVERICK_LIKE, characters_tokenizer

H200 = H100_X1.devices[0].model_copy(update={"total_memory": 141 * 10**9, "free_memory": 140 * 10**9})


def offer(hardware: Hardware, **need: object) -> Offer:
    """The offer; fails the test when there is none."""
    answer = TorchBackend().offer(Need.model_validate({"model": "demo"} | need), hardware)
    assert isinstance(answer, Offer), answer
    return answer


def refusal(hardware: Hardware, **need: object) -> Unavailable:
    """Why nothing is offered; fails when something is."""
    answer = TorchBackend().offer(Need.model_validate({"model": "demo"} | need), hardware)
    assert isinstance(answer, Unavailable), answer
    assert answer.fix
    return answer


def plan(path: Path, **changes: object) -> Plan:
    """A plan to load ``path`` on the processor."""
    fields: dict[str, object] = {
        "model": "tiny",
        "backend": "torch",
        "source": str(path),
        "placement": Placement(kind="local", devices=("cpu",)),
        "context_length": 64,
        "capabilities": CAPABILITIES,
    }
    return Plan.model_validate(fields | changes)


def test_the_processor_serves_where_there_is_nothing_else() -> None:
    """A laptop gets an offer on its CPU, in the model's own precision, with the memory it takes."""
    answer = offer(LAPTOP)
    assert answer.placement.devices == ("cpu",)
    assert answer.quantization is Quantization.FP32
    assert answer.context_length == 8192
    assert models.DEMO.config is not None
    assert answer.memory == {"cpu": sum(memory_breakdown(models.DEMO.config, Quantization.FP32, 8192).values())}


def test_an_offer_says_how_fast_it_will_be() -> None:
    """More bandwidth is more speed, and fewer bytes are; codes cost time; of unknown devices nothing is said."""
    slow, fast = (LAPTOP.model_copy(update={"memory_bandwidth": size * 10**9}) for size in (30, 60))
    told = {name: offer(slow, quantization=name).tokens_per_second or 0.0 for name in ("fp32", "bf16", "int8", "int4")}
    assert offer(fast, quantization="fp32").tokens_per_second == pytest.approx(2 * told["fp32"], rel=0.01)
    assert told["bf16"] == pytest.approx(2 * told["fp32"], rel=0.1)
    assert 0 < told["int4"] < told["int8"] < told["fp32"]
    strange = machine(H100_X1.devices[0].model_copy(update={"name": "NVIDIA Nobody 1"}))
    assert offer(strange, device="cuda").tokens_per_second is None
    assert (offer(H100_X1, device="cuda").tokens_per_second or 0.0) > told["fp32"]


@pytest.mark.parametrize("hardware", [LAPTOP, H100_X1, machine(memory=2**40)], ids=["laptop", "h100", "server"])
@pytest.mark.parametrize("model", ["demo", "scout"])
def test_an_offer_says_what_its_memory_is_for(model: str, hardware: Hardware) -> None:
    """Weights by class, cache, workspace and runtime add up to the memory; the weights are what the sizes say."""
    answer = TorchBackend().offer(Need(model=model), hardware)
    if isinstance(answer, Offer):
        ((device, parts),) = answer.breakdown.items()
        assert answer.memory == {device: sum(parts.values())}
        assert parts.keys() >= {"attention", "embedding", "norms", "kv_cache", "workspace", "runtime"}
        assert ("experts" in parts, "vision" in parts) == (model == "scout", model == "scout")
        assert answer.weight_bytes == sum(parts[part] for part in parts.keys() & set(get_args(ModuleClass)))
    else:
        assert (model, hardware) == ("scout", LAPTOP)


def test_a_gpu_goes_first() -> None:
    """Where a CUDA device has room it is taken; where it has none, the next with room is."""
    assert offer(GPU_24GB).placement.devices == ("cuda:0",)
    full = GPU_24GB.devices[0].model_copy(update={"free_memory": 10**8})
    assert offer(machine(full)).placement.devices == ("cpu",)
    emptier = GPU_24GB.devices[0].model_copy(update={"index": 1, "free_memory": 25 * 10**9})
    assert offer(machine(GPU_24GB.devices[0], emptier)).placement.devices == ("cuda:1",)


def test_choices_are_kept_or_refused_never_replaced() -> None:
    """Device, precision and context that were asked for are in the offer, or there is none."""
    assert offer(GPU_24GB, device="cpu").placement.devices == ("cpu",)
    assert offer(GPU_24GB, device="cuda").placement.devices == ("cuda:0",)
    assert offer(LAPTOP, quantization="bf16").quantization is Quantization.BF16
    assert offer(LAPTOP, context_length=100).context_length == 100
    assert "cuda:3" in refusal(GPU_24GB, device="cuda:3").reason
    assert offer(GPU_24GB, quantization="int8").quantization is Quantization.INT8
    mixed = QuantizationConfig(attention=Quantization.INT8, dense=Quantization.INT4)
    assert offer(LAPTOP, quantization=mixed).quantization == mixed
    assert "fp16" in refusal(LAPTOP, quantization="fp16").reason
    assert "one matrix" in refusal(LAPTOP, quantization=QuantizationConfig(head=Quantization.INT8)).reason
    assert "8192" in refusal(LAPTOP, context_length=9000).reason
    assert "mps" in refusal(MAC_64GB, device="mps").reason


def test_little_memory_means_a_shorter_context() -> None:
    """The cache shrinks before the model is refused; a context that was asked for is not shortened."""
    assert models.DEMO.config is not None
    enough = sum(memory_breakdown(models.DEMO.config, Quantization.FP32, 2048).values())
    small = machine(memory=2 * enough, free=math.ceil(enough / 0.95))
    assert offer(small).context_length == 2048
    assert "2048" in str(refusal(small, quantization="fp32", context_length=8192).fix)
    assert offer(small, context_length=8192).quantization is Quantization.BF16


def test_what_does_not_fit_says_how_much_is_missing() -> None:
    """Maverick on one GPU is refused with both sizes, in numbers and in words; Scout in bf16 with what would fit."""
    answer = refusal(H100_X8, model="maverick", device="cuda")
    assert answer.need_memory is not None
    assert answer.have_memory is not None
    assert answer.need_memory > 211e9
    assert "even in int4" in answer.reason
    assert "GB" in answer.reason
    assert "quantization='int4'" in str(refusal(H100_X8, model="scout", device="cuda", quantization="bf16").fix)
    assert refusal(CRAMPED).have_memory == int(CRAMPED.free_memory * 0.95)
    nearly = machine(memory=2**38, free=answer.need_memory + 10**9)
    assert "left to others" in refusal(nearly, model="maverick", quantization="int4").reason


def test_models_that_are_not_here_are_offered_where_they_fit() -> None:
    """A plan can be made before the weights are fetched: the offer has no source."""
    vast = machine(memory=2**40)
    answer = offer(vast, model="Llama4-Scout")
    assert answer.source is None
    assert answer.quantization is Quantization.BF16


@pytest.mark.parametrize(
    ("hardware", "quantization"),
    [
        (machine(memory=2**40), Quantization.BF16),
        (machine(memory=160 * 2**30, free=150 * 10**9), Quantization.INT8),
        (machine(memory=128 * 2**30, free=90 * 10**9), Quantization.INT4),
        (H100_X1, Quantization.INT4),
        (machine(H200), Quantization.FP8),
        (machine(H200.model_copy(update={"compute_capability": (8, 0)})), Quantization.INT8),
    ],
)
def test_scout_is_quantized_no_further_than_it_must_be(hardware: Hardware, quantization: Quantization) -> None:
    """Full precision where it fits, else eight bits (fp8 where the device has it), else four; with the reason."""
    answer = offer(hardware, model="scout")
    assert answer.quantization is quantization
    if quantization is Quantization.BF16:
        assert answer.quantization_reason is None
    else:
        assert re.search(r"bf16 needs 21\d\.\d GB", str(answer.quantization_reason))
        assert "activations bf16" in answer.reason


def test_the_plan_says_that_scout_only_fits_as_int4() -> None:
    """Whoever asks for a plan on one H100 reads which quantization was chosen, and what the others need."""
    with Client("scout", backend="torch", hardware=H100_X1) as client:
        plan = client.plan()
    assert plan.quantization is Quantization.INT4
    assert re.search(r"quantization: int4 because bf16 needs 21\d\.\d GB and int8 needs 11\d\.\d GB; ", plan.explain())


def test_room_is_counted_for_one_dequantized_matrix() -> None:
    """Codes need their bytes, and the values of the largest matrix while it is used: gate and up of one expert."""
    assert models.SCOUT.config is not None
    beside = {
        scheme: sum(memory_breakdown(models.SCOUT.config, scheme, 512).values())
        - weight_bytes(models.SCOUT.config, scheme)
        for scheme in (Quantization.BF16, Quantization.INT8, Quantization.INT4)
    }
    expert = 2 * 8192 * 5120 * 2 + UNPACKING_BYTES
    assert beside[Quantization.INT8] == beside[Quantization.INT4] == beside[Quantization.BF16] + expert


@pytest.mark.parametrize("model", ["nobodys-model", "/no/such/path.gguf", None])
def test_unknown_models_are_refused(model: str | None) -> None:
    """A name that is neither a model nor a path, or no name at all, gets a sentence."""
    assert refusal(LAPTOP, model=model).reason


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    """The planner hears what is wrong with the file."""
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"GGUF\x03\x00\x00\x00")
    assert "truncated" in refusal(LAPTOP, model=str(file)).reason


def test_a_model_without_a_template_is_not_offered_for_chat(
    save_tiny: Callable[..., tuple[Path, torch.nn.Module]],
) -> None:
    """An offer says what this model can do here, when that is less than the backend can."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    answer = offer(LAPTOP, model=str(folder))
    assert answer.capabilities is not None
    assert "chat" not in answer.capabilities.features


def test_a_directory_is_loaded_and_answers(save_tiny: Callable[..., tuple[Path, torch.nn.Module]]) -> None:
    """A plan becomes an engine with the plan's name and context."""
    folder, _ = save_tiny(**MAVERICK_LIKE)
    (folder / "tokenizer.json").write_text(characters_tokenizer(), encoding="utf-8")
    engine = TorchBackend().load(plan(folder, quantization="bf16"))
    assert (engine.model, engine.context_length) == ("tiny", 64)
    engine.close()


def test_what_cannot_be_loaded_says_why(save_tiny: Callable[..., tuple[Path, torch.nn.Module]], tmp_path: Path) -> None:
    """Absent weights name the command that fetches them; a missing tensor and a missing device are named."""
    with pytest.raises(WeightsNotFoundError, match="llama4sdk pull scout"):
        TorchBackend().load(plan(tmp_path, model="scout", source=None))
    with pytest.raises(WeightsNotFoundError, match=r"gone\.gguf"):
        TorchBackend().load(plan(tmp_path / "gone.gguf"))
    folder, _ = save_tiny(**MAVERICK_LIKE)
    config = (folder / "config.json").read_text(encoding="utf-8")
    (folder / "config.json").write_text(config.replace('"num_hidden_layers": 4', '"num_hidden_layers": 5'))
    with pytest.raises(CheckpointError, match=r"no tensor 'model\.layers\.4"):
        TorchBackend().load(plan(folder))
    (folder / "config.json").write_text(config, encoding="utf-8")
    missing = Placement(kind="local", devices=(f"cuda:{torch.cuda.device_count()}",))
    with pytest.raises(ModelLoadError, match="cuda"):
        TorchBackend().load(plan(folder, placement=missing))


def test_offering_loads_no_torch() -> None:
    """The offer for the demo model, and for a model that is not here, is made without torch."""
    code = (
        "import sys\n"
        "from llama4sdk.backend import Need\n"
        "from llama4sdk.testing.machines import LAPTOP\n"
        "from llama4sdk_torch.backend import TorchBackend\n"
        "for model in ('demo', 'scout'): TorchBackend().offer(Need(model=model), LAPTOP)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_module_the_card_requires_comes_with_the_wheels() -> None:
    """Modules checked before an offer are those that the wheels install, so that a fresh installation can run."""
    (card,) = llama4sdk_backends()
    declared = {
        re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")
        for distribution in ("llama4sdk", "llama4sdk-torch")
        for requirement in metadata.requires(distribution) or []
    }
    brought_by = metadata.packages_distributions()
    for module in card.requires:
        names = {name.lower().replace("_", "-") for name in brought_by[module]}
        assert names & declared, f"{module} is required, but no wheel of ours installs {names}"


@pytest.mark.parametrize(
    ("prefer", "device", "quantization"),
    [
        ("balanced", "cuda:0", "int4"),
        ("quality", "cpu", "bf16"),
        ("speed", "cuda:0", "int4"),
        ("context", "cpu", "int4"),
    ],
)
def test_what_is_preferred_decides_between_ways(prefer: str, device: str, quantization: str) -> None:
    """Scout beside much memory: on the card in four bits, in memory as published, or with the longest window."""
    answer = offer(describe("h100", ram=512 * 2**30), model="scout", prefer=prefer)
    assert (answer.placement.devices, str(answer.quantization)) == ((device,), quantization)
    assert sum(answer.memory.values()) <= 512 * 2**30
    if prefer == "context":
        more = offer(describe("h100", ram=512 * 2**30), model="scout", context_length=answer.context_length)
        assert more.context_length == answer.context_length > 1_000_000
