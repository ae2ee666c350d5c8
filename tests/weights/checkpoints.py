"""Small checkpoints of both formats, written by the formats' own libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from safetensors import TensorSpec, serialize

Array = npt.NDArray[np.generic]

HIDDEN, HEADS, KV_HEADS, DIM, DENSE, EXPERT, EXPERTS, LAYERS = 32, 4, 2, 8, 64, 32, 4, 4
VOCABULARY = [*"abcdefgh", "ab", "<|eot|>", "<|im_end|>", "Ġ"]

TOKENIZER: dict[str, object] = {
    "version": "1.0",
    "added_tokens": [
        {"id": number, "content": token, "special": True, "single_word": False}
        | {"lstrip": False, "rstrip": False, "normalized": False}
        for number, token in enumerate(VOCABULARY)
        if token.startswith("<|")
    ],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "model": {
        "type": "BPE",
        "vocab": {token: number for number, token in enumerate(VOCABULARY) if not token.startswith("<|")},
        "merges": [["a", "b"]],
    },
}
"""A ``tokenizer.json`` of ``VOCABULARY``."""

HF_CONFIG: dict[str, object] = {
    "model_type": "llama4_text",
    "vocab_size": len(VOCABULARY),
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": DIM,
    "intermediate_size": EXPERT,
    "intermediate_size_mlp": DENSE,
    "num_local_experts": EXPERTS,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2,
    "attention_chunk_size": 8,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}


def hf_tensors(*, fused: bool = True) -> dict[str, Array]:
    """Every tensor of ``HF_CONFIG``, random, in bfloat16; ``fused`` is how the experts are laid out."""
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (len(VOCABULARY), HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (len(VOCABULARY), HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}{norm}_layernorm.weight": (HIDDEN,) for norm in ("input", "post_attention")}
        sizes = {"q": HEADS * DIM, "k": KV_HEADS * DIM, "v": KV_HEADS * DIM}
        shapes |= {f"{prefix}self_attn.{part}_proj.weight": (size, HIDDEN) for part, size in sizes.items()}
        shapes[f"{prefix}self_attn.o_proj.weight"] = (HIDDEN, HEADS * DIM)
        shapes |= {f"{prefix}feed_forward.{name}": shape for name, shape in _feed_forward(layer, fused=fused).items()}
    dice = np.random.default_rng(0)
    return {name: dice.normal(size=shape).astype(ml_dtypes.bfloat16) for name, shape in shapes.items()}


def _feed_forward(layer: int, *, fused: bool) -> dict[str, tuple[int, ...]]:
    if layer % 2 == 0:
        return _swiglu("", DENSE)
    shapes: dict[str, tuple[int, ...]] = {"router.weight": (EXPERTS, HIDDEN)} | _swiglu("shared_expert.", EXPERT)
    if fused:
        return shapes | {
            "experts.gate_up_proj": (EXPERTS, HIDDEN, 2 * EXPERT),
            "experts.down_proj": (EXPERTS, EXPERT, HIDDEN),
        }
    for expert in range(EXPERTS):
        shapes |= _swiglu(f"experts.{expert}.", EXPERT)
    return shapes


def _swiglu(prefix: str, inner: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}{part}_proj.weight": (inner, HIDDEN) for part in ("gate", "up")}
    return shapes | {f"{prefix}down_proj.weight": (HIDDEN, inner)}


def unfused(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The same network with every expert's matrices apart, [out, in], as quantized checkpoints have them."""
    parted: dict[str, Array] = {}
    for name, values in tensors.items():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            parted[name] = values
            continue
        prefix, _, kind = name.rpartition(".")
        for expert, matrix in enumerate(values):
            halves = zip(("gate_proj", "up_proj"), np.split(matrix, 2, axis=1), strict=True)
            pairs = [("down_proj", matrix)] if kind == "down_proj" else list(halves)
            parted |= {f"{prefix}.{expert}.{part}.weight": np.ascontiguousarray(half.T) for part, half in pairs}
    return parted


def write_hf(
    folder: Path, tensors: Mapping[str, Array], config: Mapping[str, object] = HF_CONFIG, *, shards: int = 1
) -> Path:
    """A directory as ``save_pretrained`` leaves it, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return folder
    names = [f"model-{n + 1:05}-of-{shards:05}.safetensors" for n in range(shards)]
    where = {tensor: names[n % shards] for n, tensor in enumerate(tensors)}
    for name in names:
        write_safetensors(folder / name, {tensor: tensors[tensor] for tensor in tensors if where[tensor] == name})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}), encoding="utf-8")
    return folder


def write_safetensors(path: Path, tensors: Mapping[str, Array]) -> None:
    """The package's own file; by its bytes, for its way from numpy knows no 8-bit floats."""
    arrays = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    specs = {
        name: TensorSpec(
            dtype=values.dtype.name, shape=list(values.shape), data_ptr=values.ctypes.data, data_len=values.nbytes
        )
        for name, values in arrays.items()
    }
    path.write_bytes(serialize(specs, None))


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "feed_forward.router": "ffn_gate_inp",
}


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama4",
    pre: str = "llama4",
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    rope_factors: Array | None = None,
) -> Path:
    """The same network as a GGUF file in the names llama.cpp's converter uses."""
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(DENSE)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(DIM)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(1)
    writer.add_expert_feed_forward_length(EXPERT)
    writer.add_interleave_moe_layer_step(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in VOCABULARY])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(VOCABULARY.index("<|eot|>"))
    writer.add_chat_template("{{ messages[0].content }}<|eot|>")
    extra = {} if rope_factors is None else {"rope_freqs.weight": rope_factors}
    for name, values in (_gguf_tensors() | extra).items():
        if values.ndim > 1 and kind is not GGMLQuantizationType.F32:
            writer.add_tensor(name, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf_tensors() -> dict[str, Array]:
    source = {name: values.astype(np.float32) for name, values in hf_tensors().items()}
    tensors: dict[str, Array] = {
        "token_embd.weight": source.pop("model.embed_tokens.weight"),
        "output_norm.weight": source.pop("model.norm.weight"),
        "output.weight": source.pop("lm_head.weight"),
    }
    for name, values in source.items():
        _, _, layer, part = name.split(".", 3)
        tensors |= {f"blk.{layer}.{new}.weight": array for new, array in _gguf_part(part, values)}
    return tensors


def _gguf_part(part: str, values: Array) -> list[tuple[str, Array]]:
    stem = part.removesuffix(".weight")
    if stem in GGUF_NAMES:
        return [(GGUF_NAMES[stem], values)]
    if stem == "feed_forward.experts.gate_up_proj":
        gate, up = np.split(values, 2, axis=2)
        turned = (np.ascontiguousarray(half.swapaxes(1, 2)) for half in (gate, up))
        return list(zip(("ffn_gate_exps", "ffn_up_exps"), turned, strict=True))
    if stem == "feed_forward.experts.down_proj":
        return [("ffn_down_exps", np.ascontiguousarray(values.swapaxes(1, 2)))]
    kind = stem.rpartition(".")[2].removesuffix("_proj")
    return [(f"ffn_{kind}_shexp" if "shared_expert" in stem else f"ffn_{kind}", values)]
