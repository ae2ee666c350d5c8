"""The configuration of Llama 4's text network for optimum's exporter. Importing this registers it."""

from __future__ import annotations

from typing import Any, Final

from optimum.exporters.onnx.config import TextDecoderOnnxConfig
from optimum.exporters.onnx.model_configs import register_tasks_manager_onnx
from optimum.utils import DummyTextInputGenerator, GemmaDummyPastKeyValuesGenerator, NormalizedTextConfigWithGQA
from packaging.version import Version
from transformers import PretrainedConfig

from llama4sdk_optimum.patcher import Llama4Patcher

GENERATION_TASKS: Final = ("text-generation", "text-generation-with-past")


@register_tasks_manager_onnx("llama4_text", "feature-extraction", *GENERATION_TASKS)
@register_tasks_manager_onnx("llama4", *GENERATION_TASKS)
class Llama4OnnxConfig(TextDecoderOnnxConfig):
    """The graph's inputs and outputs; a checkpoint with a vision network exports its text network alone.

    There are no ``position_ids``: positions count the tokens that ``attention_mask`` keeps, as ``generate`` does.
    """

    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, GemmaDummyPastKeyValuesGenerator)
    DUMMY_PKV_GENERATOR_CLASS = GemmaDummyPastKeyValuesGenerator
    NORMALIZED_CONFIG_CLASS = NormalizedTextConfigWithGQA
    MIN_TRANSFORMERS_VERSION = Version("4.56.1")
    ATOL_FOR_VALIDATION = 1e-4
    _MODEL_PATCHER = Llama4Patcher

    def __init__(self, config: PretrainedConfig, *args: Any, **options: Any) -> None:
        super().__init__(config.get_text_config(), *args, **options)

    def add_past_key_values(self, inputs_or_outputs: dict[str, dict[int, str]], direction: str) -> None:
        """Add the past as the base class does, with any number and size of heads.

        An ``ORTModelForCausalLM`` that does not know the architecture begins with an empty past that has as many heads
        as queries have. The graph accepts that too, and reshapes every past to its own heads.
        """
        super().add_past_key_values(inputs_or_outputs, direction)
        if direction == "inputs":
            for name, axes in inputs_or_outputs.items():
                if name.startswith("past_key_values."):
                    axes |= {1: "past_heads", 3: "past_head_size"}
