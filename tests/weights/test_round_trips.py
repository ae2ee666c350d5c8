"""A network stored in every format has the same tensors and the same logits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from llama4sdk_torch.loading import load_model, load_networks

from llama4sdk.errors import CheckpointError
from llama4sdk.quantization import Quantization
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.formats.gguf_header import read_header
from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import (
    HF_CONFIG,
    TINY,
    Array,
    hf_tensors,
    seeing_config,
    seeing_tensors,
    unfused,
    write_gguf,
    write_hf,
)
from tests.weights.meta import write_meta

TOKENS = torch.tensor([1, 5, 3, 8, 2, 2, 7, 4, 10, 6, 3, 1, 9])  # more than one chunk of 8
KINDS = [GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")]


def _logits(checkpoint: Checkpoint) -> torch.Tensor:
    network = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    return network.logits(network.hidden(TOKENS, network.new_cache(len(TOKENS))))


def test_directories_of_every_layout_are_one_network(tmp_path: Path) -> None:
    """Fused, per expert, sharded, partly fused, and Meta's ranks give bitwise the same logits."""
    tensors = hf_tensors()
    split = unfused(tensors)
    last = {name: values for name, values in tensors.items() if "layers.3.feed_forward.experts" in name}
    mixed = {name: values for name, values in split.items() if "layers.3.feed_forward.experts" not in name} | last
    expected = _logits(open_checkpoint(write_hf(tmp_path / "fused", tensors)))
    others = [
        write_hf(tmp_path / "apart", split),
        write_hf(tmp_path / "shards", split, shards=3),
        write_hf(tmp_path / "mixed", mixed),
        write_meta(tmp_path / "meta", tensors),
    ]
    for folder in others:
        assert torch.equal(_logits(open_checkpoint(folder)), expected), folder.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_gguf_files_are_the_same_network(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    """A GGUF file has the tensors and logits of a directory with the values that the gguf package dequantizes."""
    gguf = open_checkpoint(write_gguf(tmp_path / "tiny.gguf", kind=kind))
    expected = {name: _through(values, kind) for name, values in unfused(hf_tensors()).items()}
    for name, values in expected.items():
        np.testing.assert_array_equal(gguf.read(name).astype(np.float32), values, err_msg=name)
    # The format does not say how long chunks are; llama.cpp takes 8192.
    config = HF_CONFIG | {"attention_chunk_size": 8192}
    assert torch.equal(_logits(gguf), _logits(open_checkpoint(write_hf(tmp_path / "unpacked", expected, config))))


def _through(values: Array, kind: GGMLQuantizationType) -> Array:
    exact = values.astype(np.float32)
    if exact.ndim < 2 or kind is GGMLQuantizationType.F32:
        return exact
    unpacked: Array = dequantize(quantize(exact, kind), kind)
    return unpacked


def _gguf_with_an_infinite_scale(folder: Path) -> Path:
    path = write_gguf(folder / "tiny.gguf", kind=GGMLQuantizationType.Q8_0)
    tensor = next(t for t in read_header(path).tensors if t.name == "blk.1.ffn_up_exps.weight")
    damaged = bytearray(path.read_bytes())
    damaged[tensor.start : tensor.start + 3] = np.float16(np.inf).tobytes() + b"\0"
    path.write_bytes(damaged)
    return path


def _meta_with_an_infinite_scale(folder: Path) -> Path:
    path = write_meta(folder / "meta", hf_tensors(), fp8=True)
    scales = torch.load(path / "fp8_scales_0.pt")
    scales["layers.1.feed_forward.experts.w3"][0, 0] = torch.inf
    torch.save(scales, path / "fp8_scales_0.pt")
    return path


def _hf_with_an_infinite_scale(folder: Path) -> Path:
    name = "model.layers.1.feed_forward.experts.0.up_proj.weight"
    scale = np.full((TINY.expert, 1), np.inf, np.float32)
    tensors = unfused(hf_tensors()) | {f"{name}_scale": scale}
    tensors[name] = (0 * tensors[name]).astype(np.int8)
    scheme = {"quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized"}}
    return write_hf(folder / "hf", tensors, HF_CONFIG | scheme)


@pytest.mark.parametrize(
    "write", [_gguf_with_an_infinite_scale, _meta_with_an_infinite_scale, _hf_with_an_infinite_scale]
)
def test_scales_that_are_not_finite_are_an_error(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """In every format, the weight with a broken scale is named while loading."""
    with pytest.raises(CheckpointError, match=r"experts\.0\.up_proj\.weight' .* no finite number"):
        _logits(open_checkpoint(write(tmp_path)))


@pytest.mark.parametrize("fused", [True, False])
def test_loading_says_how_far_it_is(tmp_path: Path, *, fused: bool) -> None:
    """Progress grows with every tensor and ends at the total bytes of the files, vision included."""
    tensors = seeing_tensors() if fused else unfused(seeing_tensors())
    checkpoint = open_checkpoint(write_hf(tmp_path / "tiny", tensors, seeing_config()))
    reports: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        reports.append((done, total))

    load_networks(checkpoint, device=torch.device("cpu"), quantization=Quantization.FP32, progress=progress)
    assert {total for _, total in reports} == {sum(values.nbytes for values in tensors.values())}
    steps = [done for done, _ in reports]
    assert steps == sorted(set(steps))
    assert reports[-1][0] == reports[-1][1]
