"""Sizes of GGUF files of Llama 4, by the formats that llama.cpp's quantizer gives each tensor of a named mix. Pure.

A mix such as ``Q4_K_M`` is no one format: values that matter more get more bits. The rules are those of llama.cpp
(``llama_tensor_get_type``) without an importance matrix, for the architecture ``llama4``. Publishers who set their own
formats by tensor (Unsloth's ``UD-…``) make other sizes under similar names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from llama4sdk.llama4.config import TextConfig
from llama4sdk.quantization import ModuleClass

#: Values of one block of a format, and its bytes.
BLOCKS: Final = {
    "F32": (1, 4),
    "F16": (1, 2),
    "BF16": (1, 2),
    "Q8_0": (32, 34),
    "Q6_K": (256, 210),
    "Q5_K": (256, 176),
    "Q5_0": (32, 22),
    "Q4_K": (256, 144),
    "Q4_1": (32, 20),
    "Q4_0": (32, 18),
    "MXFP4": (32, 17),
    "IQ4_XS": (256, 136),
    "IQ4_NL": (32, 18),
    "Q3_K": (256, 110),
    "IQ3_S": (256, 110),
    "IQ3_XXS": (256, 98),
    "Q2_K": (256, 84),
}

#: The mixes that are known, Scout's largest first, and the format of each where no rule says another.
GGUF_MIXES: Final = {
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_K_S": "Q5_K",
    "Q4_1": "Q4_1",
    "Q4_K_M": "Q4_K",
    "MXFP4_MOE": "MXFP4",
    "IQ4_NL": "IQ4_NL",
    "Q4_K_S": "Q4_K",
    "Q4_0": "Q4_0",
    "IQ4_XS": "IQ4_XS",
    "Q3_K_L": "Q3_K",
    "Q3_K_M": "Q3_K",
    "IQ3_M": "IQ3_S",
    "IQ3_S": "IQ3_S",
    "Q3_K_S": "Q3_K",
    "Q2_K": "Q2_K",
}

#: The format of attention's output in mixes where it is another.
ATTENTION_OUTPUT_FORMATS: Final = {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}


class _Tensor(NamedTuple):
    """``size`` values, by the name llama.cpp knows the tensor by; ``layer`` counts from 0."""

    name: str
    size: int
    layer: int = 0


def gguf_bytes(config: TextConfig, mix: str) -> int:
    """Bytes of all tensors of the text network; the header is some megabytes more. Vision is a file of its own.

    Raises KeyError for a mix that is not in ``GGUF_MIXES``.
    """
    return sum(gguf_class_bytes(config, mix).values())


def gguf_class_bytes(config: TextConfig, mix: str) -> dict[ModuleClass, int]:
    """Bytes of all tensors of the text network by class of modules."""
    sizes: Counter[ModuleClass] = Counter()
    for tensor in _tensors(config):
        values, size = BLOCKS[_format(tensor, mix, config)]
        sizes[_module_class(tensor.name)] += tensor.size * size // values
    return dict(sizes)


def _module_class(name: str) -> ModuleClass:
    if name.startswith("attn"):
        return "attention"
    names: dict[str, ModuleClass] = {
        "token_embd": "embedding",
        "output": "head",
        "norm": "norms",
        "ffn_gate_inp": "router",
    }
    suffixes: dict[str, ModuleClass] = {"exps": "experts", "shexp": "shared_expert"}
    return names.get(name) or suffixes.get(name.rpartition("_")[2], "dense")


def _tensors(c: TextConfig) -> Iterator[_Tensor]:
    queries, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    yield _Tensor("token_embd", c.vocab_size * c.hidden_size)
    if not c.tied_embeddings:
        yield _Tensor("output", c.vocab_size * c.hidden_size)
    yield _Tensor("norm", c.hidden_size)
    for layer in range(c.num_layers):
        yield _Tensor("norm", 2 * c.hidden_size, layer)
        yield _Tensor("attn_q", queries * c.hidden_size, layer)
        yield _Tensor("attn_k", keys * c.hidden_size, layer)
        yield _Tensor("attn_v", keys * c.hidden_size, layer)
        yield _Tensor("attn_output", queries * c.hidden_size, layer)
        if layer not in c.moe_layers:
            yield from _feed_forward("", c.dense_size * c.hidden_size, layer)
            continue
        yield _Tensor("ffn_gate_inp", c.num_experts * c.hidden_size, layer)
        yield from _feed_forward("_exps", c.num_experts * c.expert_size * c.hidden_size, layer)
        yield from _feed_forward("_shexp", c.expert_size * c.hidden_size, layer)


def _feed_forward(suffix: str, size: int, layer: int) -> Iterator[_Tensor]:
    for part in ("ffn_gate", "ffn_up", "ffn_down"):
        yield _Tensor(part + suffix, size, layer)


def _format(tensor: _Tensor, mix: str, c: TextConfig) -> str:
    base = GGUF_MIXES[mix]
    if tensor.name in ("norm", "ffn_gate_inp"):
        return "F32"
    if base in ("F32", "F16", "BF16", "Q8_0"):
        return base
    if mix == "MXFP4_MOE":
        return "MXFP4" if tensor.name.endswith("_exps") else "Q8_0"
    if tensor.name == "output":
        return "Q6_K"
    special = None
    if tensor.name == "attn_v":
        special = _value_format(tensor, mix, c)
    elif tensor.name == "attn_output":
        special = ATTENTION_OUTPUT_FORMATS.get(mix)
    elif tensor.name.startswith("ffn_down"):
        special = _down_format(tensor, mix, c)
    return special or base


def _value_format(tensor: _Tensor, mix: str, c: TextConfig) -> str | None:
    """Attention's values: its smallest matrix, and the one that loses most."""
    grouped = c.num_heads // c.num_kv_heads >= 4
    if mix in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _gets_more_bits(tensor.layer, c.num_layers) else None
    if mix == "Q4_K_S":
        return "Q5_K" if tensor.layer < 4 else None
    if mix == "Q3_K_M":
        return "Q5_K" if tensor.layer < 2 else "Q4_K"
    if mix in ("IQ4_NL", "IQ4_XS"):
        return "Q5_K" if grouped else None
    if mix in ("IQ3_S", "Q2_K"):
        return "Q4_K" if grouped else {"Q2_K": "Q3_K"}.get(mix)
    return {"Q3_K_L": "Q5_K", "IQ3_M": "Q4_K"}.get(mix)


def _down_format(tensor: _Tensor, mix: str, c: TextConfig) -> str | None:
    """The matrix that writes into the residual stream; the first layers' matter most."""
    if mix in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _gets_more_bits(tensor.layer, c.num_layers) else None
    if mix == "Q3_K_M":
        return "Q5_K" if tensor.layer < c.num_layers // 16 else "Q4_K"
    if mix in ("Q4_K_S", "IQ4_NL", "IQ4_XS", "IQ3_M"):
        better = "Q4_K" if mix == "IQ3_M" else "Q5_K"
        return better if tensor.layer < c.num_layers // 8 else None
    return {"Q2_K": "Q3_K", "Q3_K_L": "Q5_K"}.get(mix)


def _gets_more_bits(layer: int, layers: int) -> bool:
    """The first and last eighth, and every third between them."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2
