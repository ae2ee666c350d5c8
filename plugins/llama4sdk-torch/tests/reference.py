"""Small networks for tests, and the oracle: the same weights in transformers' Llama 4 class."""

from __future__ import annotations

from typing import TypeVar

import torch
from tokenizers import AddedToken, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Encoder
from transformers import (
    Llama4Config,
    Llama4ForCausalLM,
    Llama4ForConditionalGeneration,
    Llama4TextConfig,
    Llama4VisionConfig,
)

from llama4sdk.catalog.models import ModelSpec
from llama4sdk.weights.checkpoint import Checkpoint

Model = TypeVar("Model", bound=torch.nn.Module)

SCOUT_LIKE = {
    "interleave_moe_layer_step": 1,
    "use_qk_norm": True,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 16.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 1.0,
        "original_max_position_embeddings": 16,
    },
}
MAVERICK_LIKE = {"interleave_moe_layer_step": 2, "use_qk_norm": False}


def tiny_config(**overrides: object) -> Llama4TextConfig:
    """Four layers, chunks of 8 tokens, temperature steps of 4: every rule of the network within 30 tokens."""
    base: dict[str, object] = {
        "vocab_size": 96,
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "intermediate_size": 24,
        "intermediate_size_mlp": 40,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 8,
        "floor_scale": 4,
        "attn_scale": 0.1,
        "attn_temperature_tuning": True,
        "max_position_embeddings": 256,
        "bos_token_id": None,
        "eos_token_id": 95,
        "pad_token_id": None,
        "rms_norm_eps": 1e-5,
    }
    return Llama4TextConfig(**(base | overrides))


def tiny_vision(
    *, heads: int = 2, head_dim: int = 8, layers: int = 2, grid: int = 4, patch: int = 3, adapter: int = 20
) -> Llama4VisionConfig:
    """Tiles of a few patches; everything that has to be equal somewhere in the published configuration is so here."""
    hidden = heads * head_dim
    return Llama4VisionConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * hidden,
        image_size=grid * patch,
        patch_size=patch,
        projector_input_dim=adapter,
        projector_output_dim=adapter,
        vision_output_dim=adapter,
    )


def tiny_seeing_model(
    vision: Llama4VisionConfig, *, seed: int = 0, image_token: int = 91, **overrides: object
) -> Llama4ForConditionalGeneration:
    """Random weights of a network that sees; ``image_token`` is the token whose places image features take."""
    torch.manual_seed(seed)
    config = Llama4Config(
        vision_config=vision, text_config=tiny_config(**overrides), image_token_index=image_token, pad_token_id=None
    )
    return _randomized(Llama4ForConditionalGeneration(config).eval())


def full_size_model(spec: ModelSpec) -> Llama4ForConditionalGeneration:
    """A published network in its full size, of transformers' class, without weights."""
    c = spec.config
    assert c is not None
    text = Llama4TextConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_heads,
        num_key_value_heads=c.num_kv_heads,
        head_dim=c.head_dim,
        intermediate_size=c.expert_size,
        intermediate_size_mlp=c.dense_size,
        num_local_experts=c.num_experts,
        moe_layers=sorted(c.moe_layers),
        pad_token_id=None,
    )
    vision = Llama4VisionConfig(
        hidden_size=1408,
        num_hidden_layers=34,
        num_attention_heads=16,
        intermediate_size=5632,
        image_size=336,
        patch_size=14,
        projector_input_dim=4096,
        projector_output_dim=4096,
        vision_output_dim=4096,
    )
    with torch.device("meta"):
        return Llama4ForConditionalGeneration(Llama4Config(vision_config=vision, text_config=text, pad_token_id=None))


def _randomized(model: Model, spread: float = 0.2) -> Model:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, spread)
    return model


def tiny_model(**overrides: object) -> Llama4ForCausalLM:
    """Random weights, large enough that routing, norms and temperature matter."""
    return random_model(0, 0.2, **overrides)


def random_model(seed: int, spread: float, **overrides: object) -> Llama4ForCausalLM:
    """The same for any seed and any standard deviation of the weights."""
    torch.manual_seed(seed)
    return _randomized(Llama4ForCausalLM(tiny_config(**overrides)).eval(), spread)


def characters_tokenizer() -> str:
    """A ``tokenizer.json`` of 95 tokens, each one printable character, for the networks of ``tiny_config``."""
    encoder = Encoder(models.BPE({chr(33 + n): n for n in range(94)} | {"Ġ": 94}, []))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    return encoder.to_str()


CONTROL = ["<|begin_of_text|>", "<|end_of_text|>", "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>"]
PYTHON = ["<|python_start|>", "<|python_end|>"]


def llama4_characters_tokenizer() -> str:
    """The same 95 tokens, a line break, and Llama 4's control tokens from 96 on: 104 in all."""
    encoder = Encoder(models.BPE({chr(33 + n): n for n in range(94)} | {"Ġ": 94, "Ċ": 95}, []))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.add_special_tokens([AddedToken(name, special=True) for name in CONTROL + PYTHON])
    return encoder.to_str()


def transformers_twin(checkpoint: Checkpoint) -> Llama4ForCausalLM:
    """A dense checkpoint's weights in transformers' class, in float32."""
    c = checkpoint.config
    config = Llama4TextConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.num_layers,
        num_attention_heads=c.num_heads,
        num_key_value_heads=c.num_kv_heads,
        head_dim=c.head_dim,
        intermediate_size=c.expert_size,
        intermediate_size_mlp=c.dense_size,
        moe_layers=[],
        num_local_experts=1,
        no_rope_layers=[1] * c.num_layers,
        layer_types=["full_attention"] * c.num_layers,
        attention_chunk_size=c.max_context,  # no layer uses it, but the class asks for it
        use_qk_norm=False,
        attn_temperature_tuning=False,
        rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
        rms_norm_eps=c.norm_eps,
        max_position_embeddings=c.max_context,
        tie_word_embeddings=c.tied_embeddings,
        bos_token_id=None,
        eos_token_id=sorted(checkpoint.stop_ids),
        pad_token_id=None,
    )
    with torch.device("meta"):
        model = Llama4ForCausalLM(config)
    state = {name: torch.from_numpy(checkpoint.read(name).copy()) for name in checkpoint.tensors}
    if c.tied_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state, assign=True, strict=True)
    rotary = model.model.rotary_emb
    model.model.rotary_emb = type(rotary)(config)  # its frequencies are no weights, so they are still on "meta"
    return model.eval()


def seeing_tokenizer() -> str:
    """A ``tokenizer.json`` of characters, and of the control tokens that Llama 4's template and images are made of."""
    characters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?!<>|_Ġ"
    encoder = Encoder(models.BPE({char: n for n, char in enumerate([*characters, "Ċ"])}, []))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    images = ("image_start", "image_end", "tile_x_separator", "tile_y_separator", "patch", "image")
    names = ("begin_of_text", "header_start", "header_end", "eot", *images)
    encoder.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in names])
    return encoder.to_str()
