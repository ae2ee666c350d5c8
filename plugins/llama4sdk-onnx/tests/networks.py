"""Small random networks as checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer as Encoder
from tokenizers import decoders, models, pre_tokenizers
from transformers import (
    Llama4Config,
    Llama4ForCausalLM,
    Llama4ForConditionalGeneration,
    Llama4TextConfig,
    Llama4VisionConfig,
)


def save_seeing(
    folder: Path,
    *,
    heads: int = 2,
    head_dim: int = 8,
    layers: int = 2,
    grid: int = 4,
    patch: int = 3,
    adapter: int = 20,
    text: int = 32,
    seed: int = 0,
) -> None:
    """A network that sees, of transformers' class with random weights; its text network is as small as can be."""
    torch.manual_seed(seed)
    hidden = heads * head_dim
    vision = Llama4VisionConfig(
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
    words = Llama4TextConfig(
        vocab_size=96,
        hidden_size=text,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=24,
        intermediate_size_mlp=40,
        num_local_experts=4,
        pad_token_id=None,
    )
    config = Llama4Config(vision_config=vision, text_config=words, image_token_index=91, pad_token_id=None)
    model = Llama4ForConditionalGeneration(config).eval()
    _randomize(model)
    model.save_pretrained(folder)


def save_text(folder: Path, *, scout: bool, seed: int = 0) -> None:
    """A text network with mixtures and chunks of 8 tokens, like Scout's or like Maverick's."""
    torch.manual_seed(seed)
    config = Llama4TextConfig(
        vocab_size=96,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=32,
        intermediate_size_mlp=40,
        num_local_experts=4,
        num_experts_per_tok=1,
        interleave_moe_layer_step=1 if scout else 2,
        use_qk_norm=scout,
        attention_chunk_size=8,
        floor_scale=4,
        attn_scale=0.1,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=95,
        pad_token_id=None,
    )
    model = Llama4ForCausalLM(config).eval()
    _randomize(model)
    model.save_pretrained(folder)
    encoder = Encoder(models.BPE({chr(33 + n): n for n in range(94)} | {"Ġ": 94}, []))
    encoder.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    encoder.decoder = decoders.ByteLevel()
    encoder.save(str(folder / "tokenizer.json"))


def _randomize(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.2)
