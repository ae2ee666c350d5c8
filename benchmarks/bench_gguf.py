"""Write a checkpoint of ``bench_model.py`` as GGUF for llama.cpp: all matrices in Q4_0, norms and routers in F32.

python benchmarks/bench_gguf.py FOLDER FILE.gguf

Tensors are read, quantized and written one by one; the largest, a mixture's experts, need a few times 0.4 GB.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

from llama4sdk.llama4.config import TextConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.opening import open_checkpoint

Floats = npt.NDArray[np.float32]
Q4_0 = GGMLQuantizationType.Q4_0
BLOCK, BLOCK_BYTES = 32, 18
LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "feed_forward.router": "ffn_gate_inp", "feed_forward.shared_expert.gate_proj": "ffn_gate_shexp",
    "feed_forward.shared_expert.up_proj": "ffn_up_shexp", "feed_forward.shared_expert.down_proj": "ffn_down_shexp",
}  # fmt: skip
GLOBAL_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


class Part(NamedTuple):
    """A tensor of the file, and a function that reads its values."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], Floats]

    @property
    def is_quantized(self) -> bool:
        """Whether it is stored in Q4_0, as all matrices but routers are."""
        return len(self.shape) > 1 and "gate_inp" not in self.name

    @property
    def nbytes(self) -> int:
        """Size in the file."""
        count = math.prod(self.shape)
        return count // BLOCK * BLOCK_BYTES if self.is_quantized else 4 * count


def write_gguf(source: Path, target: Path) -> None:
    """Write the checkpoint at ``source`` as a GGUF file."""
    checkpoint = open_checkpoint(source)
    writer = GGUFWriter(target, "llama4")
    _add_hyper_parameters(writer, checkpoint.config)
    _add_vocabulary(writer, source)
    parts = list(_parts(checkpoint))
    for part in parts:
        kind = Q4_0 if part.is_quantized else None
        writer.add_tensor_info(part.name, part.shape, np.dtype(np.float32), part.nbytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for part in parts:
        values = part.values()
        writer.write_tensor_data(quantize(values, Q4_0) if part.is_quantized else values)
    writer.close()


def _add_hyper_parameters(writer: GGUFWriter, config: TextConfig) -> None:
    writer.add_block_count(config.num_layers)
    writer.add_context_length(config.max_context)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.dense_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(1)
    writer.add_expert_feed_forward_length(config.expert_size)
    writer.add_interleave_moe_layer_step(1)


def _add_vocabulary(writer: GGUFWriter, source: Path) -> None:
    numbers: dict[str, int] = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama4")
    writer.add_token_list(sorted(numbers, key=numbers.__getitem__))
    writer.add_token_types([1] * len(numbers))
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)


def _parts(checkpoint: Checkpoint) -> Iterator[Part]:
    for name in checkpoint.tensors:
        stem = name.removesuffix(".weight")
        if stem in GLOBAL_NAMES:
            yield _part(checkpoint, name, f"{GLOBAL_NAMES[stem]}.weight")
            continue
        _, _, layer, inner = stem.split(".", 3)
        if inner in LAYER_NAMES:
            yield _part(checkpoint, name, f"blk.{layer}.{LAYER_NAMES[inner]}.weight")
        elif inner == "feed_forward.experts.down_proj":
            yield _part(checkpoint, name, f"blk.{layer}.ffn_down_exps.weight", matrices=1)
        else:
            yield _part(checkpoint, name, f"blk.{layer}.ffn_gate_exps.weight", matrices=2, index=0)
            yield _part(checkpoint, name, f"blk.{layer}.ffn_up_exps.weight", matrices=2, index=1)


def _part(checkpoint: Checkpoint, source: str, name: str, *, matrices: int = 0, index: int = 0) -> Part:
    """A part of a stored tensor; experts [experts, inputs, matrices * outputs] become [experts, outputs, inputs].

    ``matrices`` is 0 for other tensors; ``index`` is the number of the matrix.
    """
    shape = tuple(checkpoint.tensors[source].shape)
    if not matrices:
        return Part(name, shape, lambda: np.asarray(checkpoint.read(source)).astype(np.float32))
    experts, inputs, outputs = shape[0], shape[1], shape[2] // matrices

    def values() -> Floats:
        matrix = np.asarray(checkpoint.read(source))[:, :, index * outputs : (index + 1) * outputs]
        return np.ascontiguousarray(matrix.swapaxes(1, 2), dtype=np.float32)

    return Part(name, (experts, outputs, inputs), values)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write a checkpoint of bench_model.py as GGUF, in Q4_0.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    arguments = parser.parse_args()
    write_gguf(arguments.folder, arguments.file)
    print(f"{arguments.file.stat().st_size / 1e9:.3f} GB in {arguments.file}")
