"""A model in question, as plans, offers and comparisons know it, whatever it was read from. Pure.

``from_spec`` builds the facts of a catalogue entry; ``weights.model_facts`` those of a checkpoint or of a
``config.json``. Offers and predictions take this value and nothing else about the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self, TypeAlias

from llama4sdk._values import Value
from llama4sdk.capabilities import Capabilities
from llama4sdk.catalog.models import LLAMA4_VOCAB_SIZE, ModelSpec
from llama4sdk.llama4.config import TextConfig
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig

Precision: TypeAlias = Quantization | QuantizationConfig

#: Ends the name of the precision that a checkpoint has already.
AS_STORED: Final = " as stored"


class StoredWeights(Value):
    """The weights in a checkpoint's files. ``form`` is a scheme's name, or that of a format of GGUF."""

    form: str
    #: Bytes in the files, vision included.
    class_bytes: dict[ModuleClass, int]
    #: Names of the engine profiles that load this form without converting it.
    engines: tuple[str, ...]

    @property
    def precision(self) -> str:
        """The precision's name in layouts, such as ``Q4_K as stored``."""
        return self.form + AS_STORED


class ModelFacts(Value):
    """One model. ``name`` is as the caller gave it: a catalogue name, a path or a repository id."""

    name: str
    config: TextConfig
    #: Parameters of the vision network, which stays in full precision; 0 for a model that takes text alone.
    vision_parameters: int = 0
    #: The scheme that keeps the weights as they were published.
    precision: Precision = Quantization.BF16
    #: The file or directory of the weights; ``None`` when they are not on this machine.
    source: Path | None = None
    #: Sizes in the files; ``None`` when they are not on this machine.
    stored: StoredWeights | None = None
    chats: bool = True
    calls_tools: bool = False

    @classmethod
    def from_spec(cls, spec: ModelSpec) -> Self:
        """The facts of a catalogue entry. Raises ValueError for a model that was never released."""
        if spec.config is None:
            raise ValueError(f"'{spec.name}' was never released: nothing is known of its network")
        return cls(
            name=spec.name,
            config=spec.config,
            vision_parameters=spec.vision_parameters,
            precision=spec.published_precision,
            calls_tools=spec.config.vocab_size == LLAMA4_VOCAB_SIZE,
        )

    @property
    def sees(self) -> bool:
        """Whether it takes images."""
        return self.vision_parameters > 0

    def capabilities_in(self, engine: Capabilities) -> Capabilities:
        """An engine's capabilities, less those that this model lacks."""
        return engine.of_model(chat=self.chats, tools=self.calls_tools, images=self.sees)
