"""Meta's original directories: ``params.json`` and a ``consolidated.NN.pth`` for each tensor-parallel rank."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from llama4sdk.llama4.config import config_errors
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.llama4.vocabulary import TURN_ENDS
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.formats.meta_params import BASE_CONTEXT, head_counts, text_config, vision_config
from llama4sdk.weights.formats.meta_shards import MetaShards
from llama4sdk.weights.formats.tokenizer_files import TokenizerFiles, read_json


class MetaCheckpoint(TokenizerFiles, Checkpoint):
    """A directory as ``llama download`` writes it, with bf16 or FP8 experts and memory-mapped files.

    It does not state its context length: the longest that Meta published for such a network is assumed.
    """

    format: ClassVar[str] = "Meta"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.resolve().name
        params = read_json(path / "params.json", needed=True)
        params = inner if isinstance(inner := params.get("model"), dict) else params
        with config_errors(f"{path} does not hold a Llama 4 network in Meta's form"):
            self._shards = MetaShards(path, head_counts(params))
            self.tensors = self._shards.tensors
            self.config = text_config(params, {name: info.shape for name, info in self.tensors.items()})
            if any(name.startswith("vision_model.") for name in self.tensors):
                self.vision = vision_config(params)

    def read(self, name: str, index: int | None = None) -> npt.NDArray[np.generic]:
        """Read a tensor, assembled from the ranks and dequantized."""
        values = self._shards.read(name)
        return values if index is None else values[index]

    def release(self) -> None:
        """Release the memory of all files."""
        self._shards.release()

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids of Llama 4's ends of text, message and turn."""
        control = self._tokenizer.control
        return frozenset(control[token] for token in TURN_ENDS if token in control)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence saying that the context length is assumed."""
        longest = self.config.max_context
        base = f" of an Instruct model; a base model was published for {BASE_CONTEXT}" if longest > BASE_CONTEXT else ""
        return (f"Its files do not say how long its context is: {longest} tokens are Meta's figure{base}.",)

    def tokenizer(self) -> Tokenizer:
        """Build the tokenizer once, since ``stop_ids`` needs it as well."""
        return self._tokenizer

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return super().tokenizer()
