"""Write a scaled-down Scout with random weights: every part of Llama 4's text network, at any size. Needs no torch.

python benchmarks/bench_model.py FOLDER [--layers 16] [--hidden 1024] [--vocabulary 49152] [--chunk 8192]

The default is 1.85 billion parameters in bf16 (3.7 GB), 0.29 billion of them used for a token. Tensors are drawn
from seed 0 and written one by one: the file is the same each time, and the memory is that of one tensor.
"""

from __future__ import annotations

import argparse
import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

EXPERTS, HEAD, KV_HEADS = 16, 64, 4
VALUES_PER_WRITE = 2**22


def write_model(
    folder: Path, *, layers: int = 16, hidden: int = 1024, vocabulary: int = 49_152, chunk: int = 8192
) -> int:
    """Write a Hugging Face checkpoint with its tokenizer; return the number of parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    config = _config(layers, hidden, vocabulary, chunk)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    _tokenizer(vocabulary).save(str(folder / "tokenizer.json"))
    shapes = dict(_shapes(layers, hidden, vocabulary))
    with (folder / "model.safetensors").open("wb") as file:
        _write_header(file, shapes)
        rng = np.random.default_rng(0)
        for name, shape in shapes.items():
            _write_values(file, rng, math.prod(shape), norm="norm" in name)
    return sum(map(math.prod, shapes.values()))


def _config(layers: int, hidden: int, vocabulary: int, chunk: int) -> dict[str, object]:
    return {
        "model_type": "llama4_text", "vocab_size": vocabulary, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": hidden // HEAD, "num_key_value_heads": KV_HEADS, "head_dim": HEAD,
        "intermediate_size": 2 * hidden, "intermediate_size_mlp": 2 * hidden, "num_local_experts": EXPERTS,
        "num_experts_per_tok": 1, "interleave_moe_layer_step": 1, "use_qk_norm": True, "attn_temperature_tuning": True,
        "attention_chunk_size": chunk, "rope_theta": 500_000.0, "max_position_embeddings": 131_072,
        "tie_word_embeddings": False, "no_rope_layers": [int((n + 1) % 4 != 0) for n in range(layers)],
    }  # fmt: skip


def _shapes(layers: int, hidden: int, vocabulary: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    inner, keys = 2 * hidden, KV_HEADS * HEAD
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    for number in range(layers):
        layer = f"model.layers.{number}."
        yield f"{layer}input_layernorm.weight", (hidden,)
        yield f"{layer}post_attention_layernorm.weight", (hidden,)
        for part, rows in (("q", hidden), ("k", keys), ("v", keys), ("o", hidden)):
            yield f"{layer}self_attn.{part}_proj.weight", (rows, hidden)
        yield f"{layer}feed_forward.router.weight", (EXPERTS, hidden)
        yield f"{layer}feed_forward.experts.gate_up_proj", (EXPERTS, hidden, 2 * inner)
        yield f"{layer}feed_forward.experts.down_proj", (EXPERTS, inner, hidden)
        for part, shape in (("gate", (inner, hidden)), ("up", (inner, hidden)), ("down", (hidden, inner))):
            yield f"{layer}feed_forward.shared_expert.{part}_proj.weight", shape
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocabulary, hidden)


def _write_header(file: BinaryIO, shapes: dict[str, tuple[int, ...]]) -> None:
    header, end = dict[str, object](), 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    file.write(struct.pack("<Q", len(text)) + text)


def _write_values(file: BinaryIO, rng: np.random.Generator, count: int, *, norm: bool) -> None:
    """Write random values with a standard deviation of 0.02; ones for norms."""
    for start in range(0, count, VALUES_PER_WRITE):
        size = min(VALUES_PER_WRITE, count - start)
        values = np.ones(size, np.float32) if norm else rng.standard_normal(size, np.float32) * np.float32(0.02)
        file.write(values.astype(ml_dtypes.bfloat16).tobytes())


def _tokenizer(vocabulary: int) -> Tokenizer:
    """A tokenizer of single bytes; the other tokens have placeholder names."""
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"t{number}" for number in range(256, vocabulary))]
    tokenizer = Tokenizer(models.BPE(vocab={name: number for number, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a scaled-down Scout with random weights.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=1024, help="a multiple of 256")
    parser.add_argument("--vocabulary", type=int, default=49_152)
    parser.add_argument("--chunk", type=int, default=8192)
    arguments = vars(parser.parse_args())
    target = arguments.pop("folder")
    print(f"{write_model(target, **arguments) / 1e9:.3f} billion parameters in {target}")
