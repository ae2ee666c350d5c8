"""The shape of Llama 4's cache for ``ORTModelForCausalLM``, which knows it for a list of architectures only."""

from __future__ import annotations

import functools
from typing import Any, Final

from optimum.onnxruntime import ORTModelForCausalLM
from transformers import PretrainedConfig

MODEL_TYPES: Final = ("llama4", "llama4_text")


def register_cache_shape() -> None:
    """Let ``ORTModelForCausalLM`` set the heads of Llama 4's cache and their size when it is created."""
    create = ORTModelForCausalLM.__init__

    @functools.wraps(create)
    def create_with_cache_shape(self: ORTModelForCausalLM, *, config: PretrainedConfig, **options: Any) -> None:
        is_llama4 = config.model_type in MODEL_TYPES
        text = config.get_text_config() if is_llama4 else config
        create(self, config=text, **options)
        if is_llama4:
            self.num_key_value_heads, self.embed_size_per_head = text.num_key_value_heads, text.head_dim

    ORTModelForCausalLM.__init__ = create_with_cache_shape
