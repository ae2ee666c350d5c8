"""Names, shapes and modules of the tensors of text and vision networks, in Hugging Face's naming."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.quantization import ModuleClass

HEAD: Final = "lm_head.weight"

#: Names of kinds of modules in the order shown: their class, and the pattern of their tensors' names. The first counts.
MODULES: Final[Mapping[str, tuple[ModuleClass, re.Pattern[str]]]] = {
    "vision": ("vision", re.compile(r"(model\.)?(vision_model|multi_modal_projector|vision_tower)\.")),
    "embeddings": ("embedding", re.compile(r"model\.embed_tokens\.")),
    "head": ("head", re.compile(r"lm_head\.")),
    "norms": ("norms", re.compile(r".*norm\.weight$")),
    "attention": ("attention", re.compile(r".*\.self_attn\.")),
    "router": ("router", re.compile(r".*\.router\.")),
    "shared experts": ("shared_expert", re.compile(r".*\.shared_expert\.")),
    "routed experts": ("experts", re.compile(r".*\.experts\.")),
    "dense layers": ("dense", re.compile(r".*\.feed_forward\.")),
    "other": ("norms", re.compile(r"")),
}


def module_kind(name: str) -> str:
    """The kind of module that a tensor is of: a key of ``MODULES``."""
    return next(kind for kind, (_, pattern) in MODULES.items() if pattern.match(name))


def vision_tensors(c: VisionConfig, text_hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of vision encoder, adapter and projector, whose output has the width ``text_hidden``."""
    model = "vision_model."
    yield f"{model}patch_embedding.linear.weight", (c.hidden_size, c.channels * c.patch_size**2)
    yield f"{model}class_embedding", (c.hidden_size,)
    yield f"{model}positional_embedding_vlm", (c.grid**2 + 1, c.hidden_size)
    for norm in ("layernorm_pre", "layernorm_post"):
        yield from _affine(f"{model}{norm}", c.hidden_size)
    for layer in range(c.num_layers):
        prefix = f"{model}model.layers.{layer}."
        for part in "qkvo":
            yield from _affine(f"{prefix}self_attn.{part}_proj", c.hidden_size, c.hidden_size)
        yield from _affine(f"{prefix}mlp.fc1", c.mlp_size, c.hidden_size)
        yield from _affine(f"{prefix}mlp.fc2", c.hidden_size, c.mlp_size)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            yield from _affine(f"{prefix}{norm}", c.hidden_size)
    yield f"{model}vision_adapter.mlp.fc1.weight", (c.adapter_size, c.mlp_size)
    yield f"{model}vision_adapter.mlp.fc2.weight", (c.adapter_size, c.adapter_size)
    yield "multi_modal_projector.linear_1.weight", (text_hidden, c.adapter_size)


def vision_parameters(c: VisionConfig, text_hidden: int) -> int:
    """Number of parameters of the vision network."""
    return sum(math.prod(shape) for _, shape in vision_tensors(c, text_hidden))


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def text_tensors(c: TextConfig, fused: Callable[[int], bool]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the text network; ``fused(layer)`` tells whether the layer's experts are one tensor."""
    queries, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    yield "model.embed_tokens.weight", (c.vocab_size, c.hidden_size)
    yield "model.norm.weight", (c.hidden_size,)
    if not c.tied_embeddings:
        yield HEAD, (c.vocab_size, c.hidden_size)
    for layer in range(c.num_layers):
        prefix = f"model.layers.{layer}."
        yield f"{prefix}input_layernorm.weight", (c.hidden_size,)
        yield f"{prefix}post_attention_layernorm.weight", (c.hidden_size,)
        yield f"{prefix}self_attn.q_proj.weight", (queries, c.hidden_size)
        yield f"{prefix}self_attn.k_proj.weight", (keys, c.hidden_size)
        yield f"{prefix}self_attn.v_proj.weight", (keys, c.hidden_size)
        yield f"{prefix}self_attn.o_proj.weight", (c.hidden_size, queries)
        prefix += "feed_forward."
        if layer in c.moe_layers:
            yield from _experts(c, prefix, fused=fused(layer))
        else:
            yield from _swiglu(prefix, c.hidden_size, c.dense_size)


def _experts(c: TextConfig, prefix: str, *, fused: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}router.weight", (c.num_experts, c.hidden_size)
    yield from _swiglu(f"{prefix}shared_expert.", c.hidden_size, c.expert_size)
    if fused:
        yield f"{prefix}experts.gate_up_proj", (c.num_experts, c.hidden_size, 2 * c.expert_size)
        yield f"{prefix}experts.down_proj", (c.num_experts, c.expert_size, c.hidden_size)
        return
    for expert in range(c.num_experts):
        yield from _swiglu(f"{prefix}experts.{expert}.", c.hidden_size, c.expert_size)


def _swiglu(prefix: str, hidden: int, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}gate_proj.weight", (inner, hidden)
    yield f"{prefix}up_proj.weight", (inner, hidden)
    yield f"{prefix}down_proj.weight", (hidden, inner)
