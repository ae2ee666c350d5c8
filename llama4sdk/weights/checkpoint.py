"""A checkpoint on disk, whichever format: what network it is, and its tensors by name. Needs no torch.

Names are those of the Hugging Face text model, without ``language_model.``: ``model.embed_tokens.weight``,
``model.layers.0.self_attn.q_proj.weight``, ``lm_head.weight``. Routed experts come in one of two layouts, as stored:

    model.layers.0.feed_forward.experts.gate_up_proj          [experts, in, 2 * out], gate then up; down_proj likewise
    model.layers.0.feed_forward.experts.7.gate_proj.weight    [out, in]; up_proj and down_proj likewise

The vision network's tensors begin with ``vision_model.`` and ``multi_modal_projector.``: see ``weights.vision``.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

__all__ = ["Checkpoint", "GenerationDefaults", "TensorInfo", "commonest_dtype"]


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
    """How the model's publisher would have it sampled; Llama 4's own published values unless the checkpoint says."""

    temperature: float = 0.6
    top_p: float = 0.9


class Checkpoint(ABC):
    """Opened, but no weights read yet.

    ``dtype`` names how most weights are stored: ``F32``, ``BF16``, ``F16`` or a GGUF quantization such as ``Q4_1``.
    """

    #: What people call this kind of checkpoint.
    format: ClassVar[str]
    path: Path
    name: str
    config: TextConfig
    #: The vision network; ``None`` when there is none among the weights.
    vision: VisionConfig | None = None
    dtype: str
    tensors: Mapping[str, TensorInfo]
    generation_defaults: GenerationDefaults

    @property
    def notes(self) -> tuple[str, ...]:
        """What its files leave open, and how that was settled, in sentences."""
        return ()

    @property
    @abstractmethod
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""

    @abstractmethod
    def read(self, name: str, index: int | None = None) -> npt.NDArray[np.generic]:
        """The values of one tensor, or of one entry of its first axis: float32, float16 or ml_dtypes' bfloat16.

        Quantized values come back as float32. The array may be a read-only view of the file.
        """

    def stored_form(self, name: str) -> MatrixFormat | None:
        """How a matrix is stored, if ``quantized`` can give it so; ``None`` where ``read`` alone can."""
        return None

    def quantized(self, name: str) -> QuantizedTensor:
        """The codes and scales of a matrix that has a ``stored_form``, bit for bit."""
        raise KeyError(name)

    def release(self) -> None:  # noqa: B027 - a checkpoint that maps no file has nothing to give back
        """Give back the memory that reading has filled with the files; arrays stay good, and all can be read again."""

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's tokenizer, which takes seconds. Raises CheckpointError when it has none that is known."""

    @abstractmethod
    def chat_template(self) -> ChatTemplate | None:
        """The checkpoint's chat template; ``None`` when it is no chat model."""

    @property
    @abstractmethod
    def has_llama4_vocabulary(self) -> bool:
        """Whether its tokenizer is Llama 4's, so that Llama 4's own prompt format can be read by it.

        Asked for every offer: it must not take building the tokenizer.
        """

    def prompt_format(self) -> ChatTemplate | Llama4Prompt | None:
        """How a conversation is written: the checkpoint's own template, or else Llama 4's where the vocabulary is."""
        from llama4sdk.llama4.prompt_format import Llama4Prompt

        return self.chat_template() or (Llama4Prompt() if self.has_llama4_vocabulary else None)

    @property
    def calls_tools(self) -> bool:
        """Whether tools can be described to it in its prompts, and its calls be read from its answers."""
        template = self.chat_template()
        return self.has_llama4_vocabulary and (template is None or template.takes_tools)

    def verify(self) -> None:
        """Check that every tensor the network needs is there in its right shape, and that no other part of it is.

        Raises CheckpointError naming the tensor. Reads no weights.
        """
        expected = set[str]()
        vision = () if self.vision is None else vision_tensors(self.vision, self.config.hidden_size)
        for name, shape in chain(text_tensors(self.config, self.fused_experts), vision):  # ends at the first missing
            expected.add(name)
            found = self.tensors.get(name)
            if found is None:
                raise CheckpointError(f"{self.path} has no tensor '{name}', which should be {_spell(shape)}.")
            if found.shape != shape:
                raise CheckpointError(f"Tensor '{name}' of {self.path} is {_spell(found.shape)}, not {_spell(shape)}.")
        for name in self.tensors.keys() - expected:
            if not ((self.vision is None and _VISION.match(name)) or (name == HEAD and self.config.tied_embeddings)):
                raise CheckpointError(
                    f"{self.path} has a tensor '{name}' that is no part of a Llama 4 network.",
                    hint="It is of another architecture, or quantized in a way that cannot be read.",
                )

    def needed(self) -> Iterator[str]:
        """The names of the tensors that the text network is made of."""
        return (name for name, _ in text_tensors(self.config, self.fused_experts))

    def fused_experts(self, layer: int) -> bool:
        """Whether the routed experts of this layer are one tensor; in partly quantized checkpoints layers differ."""
        return f"model.layers.{layer}.feed_forward.experts.gate_up_proj" in self.tensors


def commonest_dtype(tensors: Mapping[str, TensorInfo]) -> str:
    """The name of the format that most bytes are stored in."""
    sizes = Counter[str]()
    for info in tensors.values():
        sizes[info.dtype] += info.nbytes
    return sizes.most_common(1)[0][0] if sizes else "F32"


#: The vision network's tensors. Where nothing describes the network, they are left alone.
_VISION: Final = re.compile(r"(vision_model|multi_modal_projector|vision_tower)\.")


def _spell(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
