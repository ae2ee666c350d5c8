"""Write a network's hyper-parameters as Hugging Face's ``config.json``, which ``from_hf`` reads.

Per-layer facts are written per layer, so that networks of all origins can be described.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from pydantic import JsonValue

from llama4sdk.llama4.config import RopeScaling, TextConfig
from llama4sdk.llama4.vision_config import VisionConfig

IMAGE_TOKENS: Final = {
    "boi_token_index": "<|image_start|>",
    "eoi_token_index": "<|image_end|>",
    "image_token_index": "<|patch|>",
}


def hf_config(
    text: TextConfig,
    vision: VisionConfig | None = None,
    *,
    control: Mapping[str, int] | None = None,
    stop_ids: Collection[int] = (),
) -> dict[str, JsonValue]:
    """The content of a ``config.json`` from which ``from_hf`` reads the same networks.

    ``control`` maps control tokens to ids; the image tokens among them are written as well.
    """
    control = control or {}
    eos_token_ids: JsonValue = [*sorted(stop_ids)]
    text_config = _text(text) | {"bos_token_id": control.get("<|begin_of_text|>"), "eos_token_id": eos_token_ids}
    if vision is None:
        return {"architectures": ["Llama4ForCausalLM"], **text_config}
    return {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "text_config": text_config,
        "vision_config": _vision(vision),
        "tie_word_embeddings": text.tied_embeddings,
        "eos_token_id": eos_token_ids,
        **{key: control[name] for key, name in IMAGE_TOKENS.items() if name in control},
    }


def _text(c: TextConfig) -> dict[str, JsonValue]:
    layers = range(c.num_layers)
    floor_scale = int(c.floor_scale) if c.floor_scale == int(c.floor_scale) else c.floor_scale
    return {
        "model_type": "llama4_text",
        "hidden_act": "silu",
        "vocab_size": c.vocab_size,
        "hidden_size": c.hidden_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_key_value_heads": c.num_kv_heads,
        "head_dim": c.head_dim,
        "intermediate_size": c.expert_size,
        "intermediate_size_mlp": c.dense_size,
        "num_local_experts": c.num_experts,
        "num_experts_per_tok": c.experts_per_token,
        "moe_layers": [*sorted(c.moe_layers)],
        "no_rope_layers": [int(layer not in c.nope_layers) for layer in layers],
        "layer_types": ["chunked_attention" if n in c.chunked_layers else "full_attention" for n in layers],
        "attention_chunk_size": c.chunk_size,
        "rope_parameters": _rope(c.rope_theta, c.rope_scaling),
        "use_qk_norm": c.qk_norm,
        "attn_temperature_tuning": c.temperature_tuning,
        "floor_scale": floor_scale,
        "attn_scale": c.attn_scale,
        "rms_norm_eps": c.norm_eps,
        "max_position_embeddings": c.max_context,
        "tie_word_embeddings": c.tied_embeddings,
    }


def _rope(theta: float, scaling: RopeScaling | None) -> dict[str, JsonValue]:
    if scaling is None:
        return {"rope_type": "default", "rope_theta": theta}
    return {
        "rope_type": "llama3",
        "rope_theta": theta,
        "factor": scaling.factor,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
        "original_max_position_embeddings": scaling.original_context,
    }


def _vision(c: VisionConfig) -> dict[str, JsonValue]:
    return {
        "model_type": "llama4_vision_model",
        "hidden_size": c.hidden_size,
        "num_hidden_layers": c.num_layers,
        "num_attention_heads": c.num_heads,
        "num_channels": c.channels,
        "intermediate_size": c.mlp_size,
        "image_size": c.tile_size,
        "patch_size": c.patch_size,
        "pixel_shuffle_ratio": 1 / c.shuffle,
        "projector_input_dim": c.adapter_size,
        "projector_output_dim": c.adapter_size,
        "vision_output_dim": c.adapter_size,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
    }
