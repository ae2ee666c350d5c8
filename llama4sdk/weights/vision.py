"""The tensors of a vision network, as Hugging Face names them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from llama4sdk.llama4.vision_config import VisionConfig

__all__ = ["vision_parameters", "vision_tensors"]


def vision_tensors(c: VisionConfig, text_hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of encoder, adapter and the projector to the text network's width."""
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
    """How many parameters those are."""
    return sum(math.prod(shape) for _, shape in vision_tensors(c, text_hidden))


def _affine(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
