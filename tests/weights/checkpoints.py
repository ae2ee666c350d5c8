"""Small checkpoints of both formats, written by the formats' own libraries."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quant_shape_to_byte_shape, quantize
from gguf.vocab import bytes_to_unicode
from safetensors import TensorSpec, serialize

from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.tensor_names import vision_tensors

Array = npt.NDArray[np.generic]

VOCABULARY = [*"abcdefgh", "ab", "<|eot|>", "<|im_end|>", "Ġ"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Sizes of a network; every ``step``-th layer is a mixture."""

    hidden: int = 32
    heads: int = 4
    kv_heads: int = 2
    dim: int = 8
    dense: int = 64
    expert: int = 32
    experts: int = 4
    per_token: int = 1
    layers: int = 4
    step: int = 2


TINY = Sizes()

#: A ``tokenizer.json`` of ``VOCABULARY``.
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


def hf_config(sizes: Sizes = TINY) -> dict[str, object]:
    """The ``config.json`` of a text network."""
    return {
        "model_type": "llama4_text",
        "vocab_size": len(VOCABULARY),
        "hidden_size": sizes.hidden,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.dim,
        "intermediate_size": sizes.expert,
        "intermediate_size_mlp": sizes.dense,
        "num_local_experts": sizes.experts,
        "num_experts_per_tok": sizes.per_token,
        "interleave_moe_layer_step": sizes.step,
        "attention_chunk_size": 8,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-5,
    }


HF_CONFIG = hf_config()
#: A vision network that eight ranks can share.
VISION = VisionConfig(
    hidden_size=32, num_layers=2, num_heads=8, mlp_size=128, tile_size=12, patch_size=3, adapter_size=24
)


def seeing_config(sizes: Sizes = TINY) -> dict[str, object]:
    """The ``config.json`` of a network with vision."""
    vision = {
        "hidden_size": VISION.hidden_size,
        "num_hidden_layers": VISION.num_layers,
        "num_attention_heads": VISION.num_heads,
        "intermediate_size": VISION.mlp_size,
        "image_size": VISION.tile_size,
        "patch_size": VISION.patch_size,
        "projector_output_dim": VISION.adapter_size,
    }
    return {"model_type": "llama4", "text_config": hf_config(sizes), "vision_config": vision}


def seeing_tensors(sizes: Sizes = TINY) -> dict[str, Array]:
    """The tensors of ``hf_tensors``, and those of ``VISION``."""
    dice = np.random.default_rng(1)
    shapes = vision_tensors(VISION, sizes.hidden)
    return hf_tensors(sizes) | {name: dice.normal(size=shape).astype(ml_dtypes.bfloat16) for name, shape in shapes}


def hf_tensors(sizes: Sizes = TINY, *, fused: bool = True, seed: int = 0) -> dict[str, Array]:
    """Every tensor of a network, random, in bfloat16; ``fused`` is how the experts are laid out.

    Values keep their scale through a layer, however wide it is.
    """
    s = sizes
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (len(VOCABULARY), s.hidden),
        "model.norm.weight": (s.hidden,),
        "lm_head.weight": (len(VOCABULARY), s.hidden),
    }
    for layer in range(s.layers):
        prefix = f"model.layers.{layer}."
        shapes |= {f"{prefix}{norm}_layernorm.weight": (s.hidden,) for norm in ("input", "post_attention")}
        rows = {"q": s.heads * s.dim, "k": s.kv_heads * s.dim, "v": s.kv_heads * s.dim}
        shapes |= {f"{prefix}self_attn.{part}_proj.weight": (size, s.hidden) for part, size in rows.items()}
        shapes[f"{prefix}self_attn.o_proj.weight"] = (s.hidden, s.heads * s.dim)
        parts = _feed_forward(s, fused=fused) if (layer + 1) % s.step == 0 else _swiglu(s, "", s.dense)
        shapes |= {f"{prefix}feed_forward.{name}": shape for name, shape in parts.items()}
    dice = np.random.default_rng(seed)
    scale = min(1.0, math.sqrt(TINY.hidden / s.hidden))
    return {name: (dice.normal(size=shape) * scale).astype(ml_dtypes.bfloat16) for name, shape in shapes.items()}


def _feed_forward(s: Sizes, *, fused: bool) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"router.weight": (s.experts, s.hidden)}
    shapes |= _swiglu(s, "shared_expert.", s.expert)
    if fused:
        return shapes | {
            "experts.gate_up_proj": (s.experts, s.hidden, 2 * s.expert),
            "experts.down_proj": (s.experts, s.expert, s.hidden),
        }
    for expert in range(s.experts):
        shapes |= _swiglu(s, f"experts.{expert}.", s.expert)
    return shapes


def _swiglu(s: Sizes, prefix: str, inner: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{prefix}{part}_proj.weight": (inner, s.hidden) for part in ("gate", "up")}
    return shapes | {f"{prefix}down_proj.weight": (s.hidden, inner)}


def unfused(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Split fused experts into one matrix [out, in] each, as quantized checkpoints store them."""
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
    """Write a directory as ``save_pretrained`` does, without a tokenizer."""
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
    """Write a file by the safetensors package, from bytes, because its numpy interface has no 8-bit floats."""
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
    sizes: Sizes = TINY,
    *,
    architecture: str = "llama4",
    pre: str = "llama4",
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    rope_factors: Array | None = None,
    split: int = 0,
) -> Path:
    """Write the network as a GGUF file in llama.cpp's names; ``split`` is the number of tensors per file."""
    writer = GGUFWriter(path, architecture, split_max_tensors=split)
    write_sizes(writer, sizes)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(VOCABULARY)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in VOCABULARY])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(VOCABULARY.index("<|eot|>"))
    writer.add_chat_template("{{ messages[0].content }}<|eot|>")
    extra = {} if rope_factors is None else {"rope_freqs.weight": rope_factors}
    for name, values in (_gguf_tensors(sizes) | extra).items():
        if values.ndim > 1 and kind is not GGMLQuantizationType.F32:
            writer.add_tensor(name, _blocks(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    return written(writer, path)


def _blocks(values: Array, kind: GGMLQuantizationType) -> Array:
    """Quantize the values; zeros for formats that the gguf package cannot write."""
    try:
        return quantize(values, kind)
    except NotImplementedError:
        return np.zeros(quant_shape_to_byte_shape(values.shape, kind), np.uint8)


def write_sizes(writer: GGUFWriter, sizes: Sizes) -> None:
    """Add a network's hyper-parameters to a GGUF writer."""
    writer.add_block_count(sizes.layers)
    writer.add_context_length(64)
    writer.add_embedding_length(sizes.hidden)
    writer.add_feed_forward_length(sizes.dense)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.kv_heads)
    writer.add_key_length(sizes.dim)
    writer.add_rope_freq_base(500000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(sizes.experts)
    writer.add_expert_used_count(sizes.per_token)
    writer.add_expert_feed_forward_length(sizes.expert)
    writer.add_interleave_moe_layer_step(sizes.step)


def written(writer: GGUFWriter, path: Path) -> Path:
    """Write the file with everything that was added to it."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_vocabulary(
    path: Path, tokens: Mapping[bytes, int], merges: Sequence[tuple[bytes, bytes]], control: Sequence[str]
) -> Path:
    """Write a GGUF file without a network, with a byte-level vocabulary and control tokens after it."""
    characters = bytes_to_unicode()

    def spell(token: bytes) -> str:
        return "".join(characters[byte] for byte in token)

    plain = [spell(token) for token in sorted(tokens, key=tokens.__getitem__)]
    writer = GGUFWriter(path, "llama4")
    write_sizes(writer, TINY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama4")
    writer.add_token_list([*plain, *control])
    writer.add_token_types([1] * len(plain) + [3] * len(control))
    writer.add_token_merges([f"{spell(left)} {spell(right)}" for left, right in merges])
    return written(writer, path)


def _gguf_tensors(sizes: Sizes) -> dict[str, Array]:
    source = {name: values.astype(np.float32) for name, values in hf_tensors(sizes).items()}
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
