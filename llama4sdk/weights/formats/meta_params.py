"""Read a network's hyper-parameters from Meta's ``params.json``.

Sizes come from the tensors' shapes where possible: the file gives some only by a formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue

from llama4sdk.llama4.config import RopeScaling, TextConfig, layer_count, number
from llama4sdk.llama4.vision_config import VisionConfig

Shapes = Mapping[str, tuple[int, ...]]

#: Context length in tokens by the number of experts, as Meta published it: Scout and Maverick Instruct, Llama Guard 4.
#: The file does not state it.
CONTEXTS: Final = {16: 10_485_760, 128: 1_048_576, 0: 8192}
#: Context length of Llama 4's base models.
BASE_CONTEXT: Final = 262_144


def head_counts(params: Mapping[str, JsonValue]) -> tuple[int, int]:
    """Numbers of query heads, and of key/value heads."""
    heads = int(number(params, "n_heads"))
    return heads, int(number(params, "n_kv_heads", heads))


def text_config(params: Mapping[str, JsonValue], shapes: Shapes) -> TextConfig:
    """Read the text network. Raises ValueError, KeyError or TypeError for missing or invalid values."""
    layers = layer_count(params, "n_layers")
    heads, kv_heads = head_counts(params)
    moe = frozenset(n for n in range(layers) if f"model.layers.{n}.feed_forward.router.weight" in shapes)
    router = shapes[f"model.layers.{min(moe)}.feed_forward.router.weight"] if moe else (0, 0)
    vocabulary, hidden = shapes["model.embed_tokens.weight"]
    interval = int(number(params, "nope_layer_interval", 0))
    nope = frozenset(range(interval - 1, layers, interval)) if interval else frozenset[int]()
    chunk = int(number(params, "attention_chunk_size", 0)) or None
    mixture = params.get("moe_args")
    return TextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=int(number(params, "head_dim", hidden // heads)),
        expert_size=_width(shapes, "feed_forward.shared_expert.gate_proj.weight"),
        dense_size=_width(shapes, "feed_forward.gate_proj.weight"),
        num_experts=router[0],
        experts_per_token=int(number(mixture, "top_k", 1)) if isinstance(mixture, Mapping) else 1,
        moe_layers=moe,
        nope_layers=nope,
        chunked_layers=frozenset(range(layers)) - nope if chunk else frozenset(),
        chunk_size=chunk,
        rope_theta=number(params, "rope_theta", 500000.0),
        rope_scaling=_scaling(params) if params.get("use_scaled_rope") else None,
        qk_norm=bool(params.get("use_qk_norm", False)),
        temperature_tuning=bool(params.get("attn_temperature_tuning", True)),
        floor_scale=number(params, "floor_scale", 8192),
        attn_scale=number(params, "attn_scale", 0.1),
        norm_eps=number(params, "norm_eps", 1e-5),
        max_context=CONTEXTS.get(router[0], BASE_CONTEXT),
    )


def vision_config(params: Mapping[str, JsonValue]) -> VisionConfig | None:
    """Read the vision network; ``None`` without one. Raises what ``text_config`` raises, and ZeroDivisionError."""
    vision = params.get("vision_args")
    if vision is None:
        return None
    if not isinstance(vision, Mapping):
        raise TypeError("vision_args is no object")
    hidden = int(number(vision, "dim"))
    return VisionConfig(
        hidden_size=hidden,
        num_layers=layer_count(vision, "n_layers"),
        num_heads=int(number(vision, "n_heads")),
        mlp_size=int(number(vision, "mlp_ratio") * hidden),
        tile_size=_side(vision, "image_size"),
        patch_size=_side(vision, "patch_size"),
        shuffle=round(1 / number(vision, "pixel_shuffle_ratio")),
        adapter_size=int(number(vision, "output_dim")),
    )


def _scaling(params: Mapping[str, JsonValue]) -> RopeScaling:
    """Scout's scaling; its values are defaults of Meta's code, not of the file."""
    return RopeScaling(
        factor=number(params, "rope_scaling_factor", 16),
        low_freq_factor=1,
        high_freq_factor=number(params, "rope_high_freq_factor", 1),
        original_context=8192,
    )


def _width(shapes: Shapes, part: str) -> int:
    """Inner width of the first feed-forward part with this name; 1 without one."""
    return next((shape[0] for name, shape in shapes.items() if name.endswith(part)), 1)


def _side(vision: Mapping[str, JsonValue], key: str) -> int:
    """A side in pixels, given as equal height and width."""
    size = vision[key]
    if not isinstance(size, Mapping) or size.get("height") != size.get("width"):
        raise ValueError(f"{key} is {size!r}, no square")
    return int(number(size, "height"))
