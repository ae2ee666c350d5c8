"""A checkpoint on disk in any format: its network and its tensors by name. Needs no torch.

Names are those of the Hugging Face text model, without ``language_model.``: ``model.embed_tokens.weight``,
``model.layers.0.self_attn.q_proj.weight``, ``lm_head.weight``. Routed experts come in one of two layouts, as stored:

    model.layers.0.feed_forward.experts.gate_up_proj          [experts, in, 2 * out], gate then up; down_proj likewise
    model.layers.0.feed_forward.experts.7.gate_proj.weight    [out, in]; up_proj and down_proj likewise

The vision network's tensors begin with ``vision_model.`` and ``multi_modal_projector.``: see ``weights.tensor_names``.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.tensor_names import HEAD, text_tensors, vision_tensors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from llama4sdk.llama4.chat_template import ChatTemplate
    from llama4sdk.llama4.prompt_format import Llama4Prompt
    from llama4sdk.llama4.tokenizer import Tokenizer
    from llama4sdk.quantization import MatrixFormat
    from llama4sdk.weights.formats.quantized import QuantizedTensor

#: The stored dtypes of values that are not quantized.
FULL_PRECISION: Final = ("F32", "BF16", "F16")

#: Names of vision tensors, which are ignored when the configuration describes no vision network.
VISION_TENSORS: Final = re.compile(r"(vision_model|multi_modal_projector|vision_tower)\.")


class TensorInfo(NamedTuple):
    """One tensor as stored; ``nbytes`` is its size in the file."""

    shape: tuple[int, ...]
    dtype: str
    nbytes: int

    @property
    def size(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationDefaults:
    """Sampling parameters of the model's publisher; the defaults are Llama 4's published values."""

    temperature: float = 0.6
    top_p: float = 0.9


class TextFormats(ABC):
    """The tokenizer and the prompt format of a model."""

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Build the tokenizer, which takes seconds. Raises CheckpointError without one of a known kind."""

    @abstractmethod
    def chat_template(self) -> ChatTemplate | None:
        """The model's own chat template; ``None`` without one. Raises CheckpointError for a damaged one."""

    @property
    @abstractmethod
    def has_llama4_vocabulary(self) -> bool:
        """Whether its tokenizer is Llama 4's, so that the model understands Llama 4's prompt format.

        Every offer needs it: it must not build the tokenizer.
        """

    def prompt_format(self) -> ChatTemplate | Llama4Prompt | None:
        """The model's own chat template, or else Llama 4's prompt format if the vocabulary is Llama 4's."""
        from llama4sdk.llama4.prompt_format import Llama4Prompt

        return self.chat_template() or (Llama4Prompt() if self.has_llama4_vocabulary else None)

    @property
    def calls_tools(self) -> bool:
        """Whether its prompt format can describe tools, and its answers contain calls that can be parsed."""
        template = self.chat_template()
        return self.has_llama4_vocabulary and (template is None or template.takes_tools)


class Checkpoint(TextFormats):
    """An open checkpoint, of which only headers have been read."""

    #: Name of the format for users.
    format: ClassVar[str]
    path: Path
    name: str
    config: TextConfig
    #: The vision network; ``None`` when the checkpoint has no weights for one.
    vision: VisionConfig | None = None
    tensors: Mapping[str, TensorInfo]
    generation_defaults: GenerationDefaults = GenerationDefaults()

    @cached_property
    def dtype(self) -> str:
        """The format of most bytes: ``F32``, ``BF16``, ``F16`` or a GGUF quantization such as ``Q4_1``."""
        sizes = Counter[str]()
        for info in self.tensors.values():
            sizes[info.dtype] += info.nbytes
        return max(sizes, key=sizes.__getitem__, default="F32")

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on facts that its files do not state, and the values assumed for them."""
        return ()

    @property
    @abstractmethod
    def stop_ids(self) -> frozenset[int]:
        """Ids of the tokens that end an answer."""

    @abstractmethod
    def read(self, name: str, index: int | None = None) -> npt.NDArray[np.generic]:
        """Read a tensor, or one entry of its first axis, as float32, float16 or ml_dtypes' bfloat16.

        Quantized values are returned as float32. The array may be a read-only view of the file.
        """

    def stored_form(self, name: str) -> MatrixFormat | None:
        """The quantized format of a matrix that ``read_quantized`` can return; ``None`` where only ``read`` works."""
        return None

    def read_quantized(self, name: str) -> QuantizedTensor:
        """Read the stored codes and scales of a matrix that has a ``stored_form``."""
        raise KeyError(name)

    def release(self) -> None:
        """Release the memory of file pages that were read; arrays stay valid, and everything can be read again."""

    def verify(self) -> None:
        """Check that every tensor of the network exists in its right shape, and that there are no others.

        Raises CheckpointError naming the tensor. Reads no weights.
        """
        expected = set[str]()
        vision = () if self.vision is None else vision_tensors(self.vision, self.config.hidden_size)
        for name, shape in chain(text_tensors(self.config, self.fused_experts), vision):
            expected.add(name)
            info = self.tensors.get(name)
            if info is None:
                raise CheckpointError(f"{self.path} has no tensor '{name}', which should be {list(shape)}.")
            if info.shape != shape:
                raise CheckpointError(f"Tensor '{name}' of {self.path} is {list(info.shape)}, not {list(shape)}.")
        for name in self.tensors.keys() - expected:
            is_unused_vision = self.vision is None and VISION_TENSORS.match(name)
            if not is_unused_vision and not (name == HEAD and self.config.tied_embeddings):
                raise CheckpointError(
                    f"{self.path} has a tensor '{name}' that is no part of a Llama 4 network.",
                    hint="It is of another architecture, or quantized in a way that cannot be read.",
                )

    def text_tensor_names(self) -> Iterator[str]:
        """Names of the text network's tensors."""
        return (name for name, _ in text_tensors(self.config, self.fused_experts))

    def fused_experts(self, layer: int) -> bool:
        """Whether a layer's routed experts are one tensor; layers differ in partly quantized checkpoints."""
        return f"model.layers.{layer}.feed_forward.experts.gate_up_proj" in self.tensors
