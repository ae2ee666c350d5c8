"""Whole networks with quantized weights: what they compute, what they take, and what is kept of a checkpoint's own."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from llama4sdk_torch.backend import TorchBackend
from llama4sdk_torch.engine import TorchEngine
from llama4sdk_torch.loading import load_model
from llama4sdk_torch.model import Mixture, TextModel, Weights
from llama4sdk_torch.quantized import Quantized
from safetensors.torch import load_file, save_file

from llama4sdk.backend import Need, Offer
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.messages import Message
from llama4sdk.quantization import Quantization, QuantizationConfig
from llama4sdk.requests import Request, SamplingParams
from llama4sdk.results import fold
from llama4sdk.testing.machines import machine
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.quantization_plan import QuantizationPlan, stored_quantization

from .numeric import assert_near, logits_of_rows
from .reference import MAVERICK_LIKE, SCOUT_LIKE

Save = Callable[..., tuple[Path, torch.nn.Module]]
CPU = torch.device("cpu")
INT4, INT8, FP8, FP32 = (Quantization(name) for name in ("int4", "int8", "fp8", "fp32"))
CONFIGS = [
    *("fp32", "bf16", "int8/fp32", "fp8", "int4-g32/fp32", "int4-g64", "int4"),
    QuantizationConfig(experts=INT4, attention=INT8, shared_expert=FP8, head=INT8, dtype=FP32),
    QuantizationConfig(dense=FP8, embedding=INT4, head=INT4, group_size=32),
]


def tensors(weights: object) -> list[torch.Tensor]:
    """All that the weights are made of, each once; what is tied is one."""
    if isinstance(weights, torch.Tensor):
        return [weights]
    if isinstance(weights, tuple):
        return [tensor for part in weights for tensor in tensors(part)]
    if dataclasses.is_dataclass(weights):
        found = [t for field in dataclasses.fields(weights) for t in tensors(getattr(weights, field.name))]
        return list({id(tensor): tensor for tensor in found}.values())
    return []


def dequantized(part: Any) -> Any:
    """The same weights with plain tensors for codes."""
    if isinstance(part, Quantized):
        return part.dense()
    if isinstance(part, tuple):
        return tuple(dequantized(one) for one in part)
    if dataclasses.is_dataclass(part) and not isinstance(part, type):
        fields = {field.name: dequantized(getattr(part, field.name)) for field in dataclasses.fields(part)}
        return dataclasses.replace(part, **fields)
    return part


def logits(network: TextModel, count: int = 20) -> torch.Tensor:
    """Of two random texts."""
    ids = torch.randint(0, network.config.vocab_size, (2, count), generator=torch.Generator().manual_seed(5))
    return logits_of_rows(network, ids, [count])


@pytest.fixture(scope="module", params=[SCOUT_LIKE, MAVERICK_LIKE], ids=["scout", "maverick"])
def checkpoint(request: pytest.FixtureRequest, save_tiny: Save) -> Checkpoint:
    """A random network of either kind, in float32, with widths that are no multiple of any group."""
    return open_checkpoint(save_tiny(**request.param, head_dim=12, intermediate_size=70, intermediate_size_mlp=200)[0])


@pytest.mark.parametrize("name", CONFIGS, ids=str)
def test_loaded_weights_take_exactly_what_was_estimated(checkpoint: Checkpoint, name: str | QuantizationConfig) -> None:
    """Byte for byte, for every scheme, from sizes alone and from the checkpoint."""
    config = QuantizationConfig.of(name)
    network = load_model(checkpoint, device=CPU, quantization=config)
    held = sum(tensor.nbytes for tensor in tensors(network.weights))
    assert held == weight_bytes(checkpoint.config, config) == QuantizationPlan(checkpoint, config).bytes


@pytest.mark.parametrize("name", ["bf16", "int8", "fp8", "int4", "int4-g32/fp32"])
def test_the_demo_takes_exactly_what_was_estimated(demo: Checkpoint, name: str) -> None:
    """A tied network, too; codes that the file has come with its own scales and minima."""
    config = QuantizationConfig.of(name)
    held = sum(tensor.nbytes for tensor in tensors(load_model(demo, device=CPU, quantization=config).weights))
    assert held == QuantizationPlan(demo, config).bytes
    if name != "int4":
        assert held == weight_bytes(demo.config, config)


@pytest.mark.parametrize("name", [str(name) for name in CONFIGS if str(name) not in ("bf16", "fp32")])
def test_a_quantized_network_computes_what_its_values_would(checkpoint: Checkpoint, name: str) -> None:
    """Its logits are those of the same network with plain tensors, in float32, and not those of the original."""
    config = next(QuantizationConfig.of(config) for config in CONFIGS if str(config) == name)
    config = config.model_copy(update={m: FP32 for m in type(config).model_fields if getattr(config, m) == "bf16"})
    network = load_model(checkpoint, device=CPU, quantization=config)
    plain: Weights = dequantized(network.weights)
    assert_near(logits(network), logits(TextModel(checkpoint.config, plain)))
    exact = logits(load_model(checkpoint, device=CPU, dtype=torch.float32))
    assert not torch.allclose(logits(network), exact, atol=1e-4)


@pytest.mark.parametrize("name", ["int8/fp32", "fp8/fp32", "int4-g32/fp32"])
@torch.inference_mode()
def test_both_ways_to_route_agree(checkpoint: Checkpoint, name: str) -> None:
    """Grouping tokens by expert and fetching each token's expert give one result from codes, too."""
    network = load_model(checkpoint, device=CPU, quantization=QuantizationConfig.of(name))
    mixture = network.weights.layers[1].feed_forward
    assert isinstance(mixture, Mixture)
    assert isinstance(mixture.gate_up, Quantized)
    inputs, experts = torch.randn(7, 1, 32), torch.randint(0, 4, (7, 1))
    torch.testing.assert_close(mixture.grouped(inputs, experts), mixture.gathered(inputs, experts))


def test_the_demo_answers_in_int8(demo: Checkpoint) -> None:
    """A real question still gets the right answer."""
    network = load_model(demo, device=CPU, quantization=INT8)
    engine = TorchEngine(demo, network, model="demo", context_length=128)
    sampling = SamplingParams(temperature=0, max_tokens=16)
    request = Request(messages=(Message(role="user", content="What is the capital of France?"),), sampling=sampling)
    assert "Paris" in fold(engine.stream(request), model="demo", backend="torch").text


def test_what_a_file_has_in_int4_is_not_rounded_again(demo: Checkpoint, demo_network: TextModel) -> None:
    """The demo's Q4_1 blocks are held as they are: int4 in memory gives the logits of the file's own values."""
    assert stored_quantization(demo) is INT4
    network = load_model(demo, device=CPU, quantization=QuantizationConfig.of("int4/fp32"))
    assert isinstance(network.weights.layers[0].attention.qkv, Quantized)
    assert_near(logits(network), logits(demo_network))


SCHEMES = {"float-quantized": FP8, "int-quantized": INT8, "pack-quantized": INT4}


def compressed(folder: Path, target: Path, form: str, leave: str = "no such layer") -> Path:
    """The network of ``folder`` as compressed-tensors stores it, except for what begins with ``leave``."""
    stored = dict[str, torch.Tensor]()
    for name, values in _unfused(load_file(folder / "model.safetensors")).items():
        if "_proj." not in name or name.startswith(leave):
            stored[name] = values
            continue
        groups = values.unflatten(1, (-1, 8)) if form == "pack-quantized" else values.unsqueeze(1)
        largest = {"float-quantized": 448, "int-quantized": 127, "pack-quantized": 7}[form]
        scale = (groups.abs().amax(-1) / largest).bfloat16()
        codes = (groups / scale.float().unsqueeze(-1)).clamp(-largest, largest).flatten(1)
        stored[f"{name}_scale"] = scale
        if form == "float-quantized":
            stored[name] = codes.to(torch.float8_e4m3fn)
        elif form == "int-quantized":
            stored[name] = codes.round().to(torch.int8)
        else:
            nibbles = (codes.round().int() + 8).unflatten(1, (-1, 8)) << torch.arange(0, 32, 4)
            stored[f"{name}_packed"] = nibbles.sum(-1, dtype=torch.int64).to(torch.int32)
            stored[f"{name}_shape"] = torch.tensor(values.shape)
    target.mkdir()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = {"quant_method": "compressed-tensors", "format": form}
    (target / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({name: values.contiguous() for name, values in stored.items()}, target / "model.safetensors")
    return target


def _unfused(stored: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    parted = dict[str, torch.Tensor]()
    for name, values in stored.items():
        prefix, _, kind = name.rpartition(".")
        if kind not in ("gate_up_proj", "down_proj"):
            parted[name] = values
            continue
        names = ("gate_proj", "up_proj") if kind == "gate_up_proj" else (kind,)
        for expert, matrix in enumerate(values):
            parts = zip(names, matrix.chunk(len(names), 1), strict=True)
            parted |= {f"{prefix}.{expert}.{part}.weight": half.T.contiguous() for part, half in parts}
    return parted


@pytest.mark.parametrize("form", SCHEMES)
def test_a_checkpoints_own_codes_are_kept(save_tiny: Save, tmp_path: Path, form: str) -> None:
    """Codes and scales are the stored ones bit for bit, and give the logits that reading their values gives."""
    folder = compressed(save_tiny(**SCOUT_LIKE)[0], tmp_path / form, form)
    checkpoint, scheme = open_checkpoint(folder), SCHEMES[form]
    assert stored_quantization(checkpoint) is scheme
    network = load_model(checkpoint, device=CPU, quantization=QuantizationConfig.of(f"{scheme}/fp32"))
    down = network.weights.layers[2].feed_forward
    assert isinstance(down, Mixture)
    assert isinstance(down.down, Quantized)
    name = "model.layers.2.feed_forward.experts.3.down_proj.weight"
    raw = load_file(folder / "model.safetensors")
    stored = raw[f"{name}_packed"] if form == "pack-quantized" else raw[name]
    assert torch.equal(down.down[3].codes.contiguous().view(torch.uint8), stored.view(torch.uint8))
    assert torch.equal(down.down[3].scale, raw[f"{name}_scale"])
    assert down.down.scale.dtype == torch.bfloat16
    exact = load_model(checkpoint, device=CPU, dtype=torch.float32)
    assert_near(logits(network), logits(exact))
    held = sum(tensor.nbytes for tensor in tensors(network.weights))
    assert held == QuantizationPlan(checkpoint, QuantizationConfig.of(f"{scheme}/fp32")).bytes


def test_what_the_publisher_left_out_stays_whole(save_tiny: Save, tmp_path: Path) -> None:
    """In a quantized checkpoint a layer in full precision is not rounded; another scheme rounds it like the others."""
    folder = compressed(save_tiny(**SCOUT_LIKE)[0], tmp_path / "partly", "float-quantized", leave="model.layers.0.")
    checkpoint = open_checkpoint(folder)
    assert stored_quantization(checkpoint) is FP8
    for scheme in (FP8, INT8):
        network = load_model(checkpoint, device=CPU, quantization=scheme)
        first, second = (layer.attention.qkv for layer in network.weights.layers[:2])
        assert isinstance(first, torch.Tensor) is (scheme is FP8)
        assert isinstance(second, Quantized)
        assert second.form.scheme is scheme
        assert sum(t.nbytes for t in tensors(network.weights)) == QuantizationPlan(checkpoint, scheme).bytes


def test_a_group_size_that_was_asked_for_is_had(save_tiny: Save, tmp_path: Path) -> None:
    """Stored groups of 8 are kept unless other groups are asked for; then the weights are rounded anew."""
    folder = compressed(save_tiny(**SCOUT_LIKE)[0], tmp_path / "groups", "pack-quantized")
    for name, group in (("int4", 8), ("int4-g32", 32)):
        network = load_model(open_checkpoint(folder), device=CPU, quantization=QuantizationConfig.of(name))
        output = network.weights.layers[0].attention.output
        assert isinstance(output, Quantized)
        assert output.form.group_size == group


def test_a_large_int4_checkpoint_is_offered_as_int4(save_tiny: Save, tmp_path: Path) -> None:
    """It is held as it is stored, and the plan's memory is counted from its own groups."""
    folder = compressed(save_tiny(**SCOUT_LIKE)[0], tmp_path / "large", "pack-quantized")
    file, tokens = folder / "model.safetensors", 2**24  # two embeddings: more than is unpacked because it is small
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": tokens}), encoding="utf-8")
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header, size = json.loads(content[8:end]), len(content) - end
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        header[name] |= {"shape": [tokens, 32], "data_offsets": [size, size + tokens * 32 * 4]}
        size += tokens * 32 * 4
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text + content[end:])
        out.truncate(8 + len(text) + size)  # the embeddings are a hole that takes no room on the disk
    need = Need(model=str(folder))
    answer = TorchBackend().offer(need, machine(memory=2**36))
    assert isinstance(answer, Offer)
    assert answer.quantization is INT4
    assert "stored" in str(answer.quantization_reason)
    assert sum(answer.memory.values()) > QuantizationPlan(open_checkpoint(folder), INT4).bytes


PEAK = """
import sys, threading, time, torch
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk_torch.loading import load_model

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) * 1024

def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.0005)

checkpoint = open_checkpoint(sys.argv[1])
torch.zeros(1000, 1000) @ torch.zeros(1000, 1000)
before = anonymous()
peak = [before]
threading.Thread(target=watch, daemon=True).start()
network = load_model(checkpoint, device=torch.device("cpu"), quantization=sys.argv[2])
print(peak[0] - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", ["bf16", "int4"])
def test_loading_needs_little_more_than_what_is_loaded(save_tiny: Save, name: str) -> None:
    """Weights are quantized as they come: never is there more than the loaded size, one tensor and small pieces."""
    folder, model = save_tiny(**SCOUT_LIKE, hidden_size=256, intermediate_size=1024, num_local_experts=16)
    checkpoint = open_checkpoint(folder)
    command = [sys.executable, "-c", PEAK, str(folder), name]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    expert = 2 * 256 * 1024 * 4
    pieces = 40 * 2**20  # less than one layer of experts in float32; the allocator keeps some of what was freed
    loaded = QuantizationPlan(checkpoint, QuantizationConfig.of(name)).bytes
    assert loaded + pieces < sum(parameter.numel() * 2 for parameter in model.parameters()) or name == "bf16"
    assert peak < loaded + expert + pieces
