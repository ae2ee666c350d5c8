"""What ``ORTModelForCausalLM`` is told about Llama 4: the shape of its past. Importing this tells it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from optimum.onnxruntime import ORTModelForCausalLM

if TYPE_CHECKING:
    from transformers import PretrainedConfig

__all__: list[str] = []

MODEL_TYPES: Final = ("llama4", "llama4_text")


def _knowing(init: Any) -> Any:
    """``init``, and then the heads of the past and their size, which it takes from a list of architectures."""

    @functools.wraps(init)
    def wrapper(self: ORTModelForCausalLM, *, config: PretrainedConfig, **options: Any) -> None:
        ours = config.model_type in MODEL_TYPES
        text = config.get_text_config() if ours else config
        init(self, config=text, **options)
        if ours:
            self.num_key_value_heads, self.embed_size_per_head = text.num_key_value_heads, text.head_dim

    return wrapper


ORTModelForCausalLM.__init__ = _knowing(ORTModelForCausalLM.__init__)
