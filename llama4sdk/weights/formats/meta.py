"""Meta's original directories: ``params.json`` and a ``consolidated.NN.pth`` for each rank they were trained on."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.weights.checkpoint import Checkpoint, GenerationDefaults, commonest_dtype
from llama4sdk.weights.formats.meta_params import OTHER_CONTEXT, heads_of, text_config, vision_config
from llama4sdk.weights.formats.meta_shards import Ranks
from llama4sdk.weights.formats.tokenizer_files import has_llama4_tokenizer, read_json, read_text, read_tokenizer

__all__ = ["MetaCheckpoint"]

TURN_ENDS: Final = ("<|end_of_text|>", "<|eom|>", "<|eot|>")


class MetaCheckpoint(Checkpoint):
    """A directory as ``llama download`` leaves it, with bf16 or FP8 experts; the files stay mapped while this lives.

    It does not state its context: the longest one that Meta published for a network of its kind is taken.
    """

    format: ClassVar[str] = "Meta"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.resolve().name
        params = read_json(path / "params.json", needed=True)
        params = inner if isinstance(inner := params.get("model"), dict) else params
        try:
            self._ranks = Ranks(path, heads_of(params))
            self.tensors = self._ranks.tensors
            self.config = text_config(params, {name: info.shape for name, info in self.tensors.items()})
            if any(name.startswith("vision_model.") for name in self.tensors):
                self.vision = vision_config(params)
        except (ValidationError, KeyError, TypeError, ValueError, ArithmeticError) as error:
            missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(f"{path} does not hold a Llama 4 network in Meta's form: {missing}.") from error
        self.dtype = commonest_dtype(self.tensors)
        self.generation_defaults = GenerationDefaults()

    def read(self, name: str, index: int | None = None) -> npt.NDArray[np.generic]:
        """As the base class says; put together from the ranks, quantization undone."""
        values = self._ranks.read(name)
        return values if index is None else values[index]

    def release(self) -> None:
        """As the base class says."""
        self._ranks.release()

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Llama 4's ends of text, message and turn."""
        control = self._tokenizer.control
        return frozenset(control[token] for token in TURN_ENDS if token in control)

    @property
    def notes(self) -> tuple[str, ...]:
        """That the context's length is taken from Meta's tables."""
        longest = self.config.max_context
        base = (
            f" of an Instruct model; a base model was published for {OTHER_CONTEXT}" if longest > OTHER_CONTEXT else ""
        )
        return (f"Its files do not say how long its context is: {longest} tokens are Meta's figure{base}.",)

    def tokenizer(self) -> Tokenizer:
        """Read from ``tokenizer.model``, or a ``tokenizer.json`` that was put beside the weights."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return read_tokenizer(self.path)

    @property
    def has_llama4_vocabulary(self) -> bool:
        """Looked up without building the tokenizer."""
        return has_llama4_tokenizer(self.path)

    def chat_template(self) -> ChatTemplate | None:
        """``chat_template.jinja``, where one was put beside the weights."""
        file = self.path / "chat_template.jinja"
        return ChatTemplate(read_text(file)) if file.is_file() else None
