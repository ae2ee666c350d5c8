"""One network in every form it can be stored in: the same tensors, and the same logits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from llama4sdk_torch.loading import load_model, load_networks

from llama4sdk.weights.checkpoint import Checkpoint, open_checkpoint
from tests.weights.checkpoints import (
    HF_CONFIG,
    Array,
    hf_tensors,
    seeing_config,
    seeing_tensors,
    unfused,
    write_gguf,
    write_hf,
)
from tests.weights.meta import write_meta

TOKENS = torch.tensor([[1, 5, 3, 8, 2, 2, 7, 4, 10, 6, 3, 1, 9]])  # more than one chunk of 8
KINDS = [GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")]


def _logits(checkpoint: Checkpoint) -> torch.Tensor:
    network = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32)
    return network.logits(network.hidden(TOKENS, network.new_cache(TOKENS.shape[1])))


def test_directories_of_every_layout_are_one_network(tmp_path: Path) -> None:
    """Fused, per expert, in shards, partly fused, and Meta's ranks: bit for bit the same logits."""
    tensors = hf_tensors()
    apart = unfused(tensors)
    last = {name: values for name, values in tensors.items() if "layers.3.feed_forward.experts" in name}
    mixed = {name: values for name, values in apart.items() if "layers.3.feed_forward.experts" not in name} | last
    expected = _logits(open_checkpoint(write_hf(tmp_path / "fused", tensors)))
    others = [
        write_hf(tmp_path / "apart", apart),
        write_hf(tmp_path / "shards", apart, shards=3),
        write_hf(tmp_path / "mixed", mixed),
        write_meta(tmp_path / "meta", tensors),
    ]
    for folder in others:
        assert torch.equal(_logits(open_checkpoint(folder)), expected), folder.name


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_gguf_files_are_the_same_network(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    """A GGUF file has the tensors, and the logits, of a directory with the values that the gguf package unpacks."""
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


@pytest.mark.parametrize("fused", [True, False])
def test_loading_says_how_far_it_is(tmp_path: Path, *, fused: bool) -> None:
    """The bytes read grow with every tensor, and end at the total, which is that of the files, vision included."""
    tensors = seeing_tensors() if fused else unfused(seeing_tensors())
    checkpoint = open_checkpoint(write_hf(tmp_path / "tiny", tensors, seeing_config()))
    seen: list[tuple[int, int | None]] = []

    def progress(done: int, total: int | None) -> None:
        seen.append((done, total))

    load_networks(checkpoint, device=torch.device("cpu"), dtype=torch.float32, progress=progress)
    assert {total for _, total in seen} == {sum(values.nbytes for values in tensors.values())}
    steps = [done for done, _ in seen]
    assert steps == sorted(set(steps))
    assert seen[-1][0] == seen[-1][1]
