"""K-quants, which the gguf package cannot write: blocks quantized and dequantized by llama.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import TINY, write_sizes, written
from tests.weights.llama_cpp_peer import BLOCKS


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"])
def test_blocks_have_the_values_that_llama_cpp_unpacks(tmp_path: Path, kind: str) -> None:
    """A block, alone and as one row of several, has exactly llama.cpp's values."""
    blocks = np.load(BLOCKS)
    raw, values = blocks[kind], blocks[f"{kind}_values"]
    writer = GGUFWriter(tmp_path / "blocks.gguf", "llama4")
    write_sizes(writer, TINY)
    writer.add_vocab_size(1)
    writer.add_tensor("one", raw[None], raw_dtype=GGMLQuantizationType[kind])
    writer.add_tensor("more", np.stack([0 * raw, raw]), raw_dtype=GGMLQuantizationType[kind])
    checkpoint = open_checkpoint(written(writer, tmp_path / "blocks.gguf"))
    assert checkpoint.tensors["more"] == ((2, 256), kind, 2 * raw.nbytes)
    np.testing.assert_array_equal(checkpoint.read("one"), values[None])
    np.testing.assert_array_equal(checkpoint.read("more"), np.stack([0 * values, values]))
    np.testing.assert_array_equal(checkpoint.read("more", 1), values)
    assert np.unique(values).size > 3
