"""GGUF files of architecture ``llama4`` or ``llama``: metadata, tokenizer and tensors in one file or several."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from gguf.quants import dequantize
from pydantic import JsonValue

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.config import MAX_MODULES
from llama4sdk.llama4.gguf_config import config_from_gguf
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.llama4.vocabulary import is_llama4
from llama4sdk.quantization import MatrixFormat
from llama4sdk.weights.checkpoint import FULL_PRECISION, Checkpoint, TensorInfo
from llama4sdk.weights.disk import release_memory
from llama4sdk.weights.formats.gguf_header import Tensor, read_parts
from llama4sdk.weights.formats.quantized import GGUF_FORMATS, QuantizedTensor, from_gguf
from llama4sdk.weights.formats.safetensors import DTYPES

ROPE_FACTORS: Final = "rope_freqs.weight"
#: No head has more rotated pairs.
MAX_ROTATED_PAIRS: Final = 4096
#: The token types control, user-defined and unused; tokens of all other types are text.
NON_TEXT_TYPES: Final = (3, 4, 5)

GLOBAL_NAMES: Final = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
SWIGLU_PARTS: Final = ("gate", "up", "down")
LAYER_TENSOR: Final = re.compile(r"blk\.([^.]*)\.(\w+)\.weight")
LAYER_NAMES: Final = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_output": "self_attn.o_proj",
    "ffn_gate_inp": "feed_forward.router",
    **{f"attn_{part}": f"self_attn.{part}_proj" for part in "qkv"},
    **{f"ffn_{part}": f"feed_forward.{part}_proj" for part in SWIGLU_PARTS},
    **{f"ffn_{part}_shexp": f"feed_forward.shared_expert.{part}_proj" for part in SWIGLU_PARTS},
}
EXPERT_NAMES: Final = {f"ffn_{part}_exps": f"{part}_proj" for part in SWIGLU_PARTS}

#: Control tokens that end an answer even if the metadata do not list them; converters list only one.
TURN_ENDS: Final = (
    *("<|eot|>", "<|eom|>", "<|end_of_text|>"),
    *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|endoftext|>"),
)


class GGUFCheckpoint(Checkpoint):
    """A GGUF file or the parts of a split one, memory-mapped; tensors are dequantized as they are read."""

    format: ClassVar[str] = "GGUF"

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = read_parts(path)
        self._parts = parts
        self._header = parts[0]  # the other parts contain only tensors
        self._metadata = self._header.metadata
        self._part_of = {tensor.name: part for part in parts for tensor in part.tensors}
        stored = {tensor.name: tensor for part in parts for tensor in part.tensors}
        factors = stored.pop(ROPE_FACTORS, None)
        self.config = config_from_gguf(
            self._complete_metadata(),
            tied_embeddings="output.weight" not in stored,
            rope_factors=[] if factors is None else self._rope_factors(factors),
        )
        self.name = str(self._metadata.get("general.name") or path.stem)
        self._sources = {name: source for tensor in stored.values() for name, source in _named_sources(tensor)}
        self.tensors = {name: _info(*source) for name, source in self._sources.items()}

    def read(self, name: str, index: int | None = None) -> npt.NDArray[np.generic]:
        """Read a tensor; quantized values are dequantized."""
        return self._values(*self._sources[name], index)

    def stored_form(self, name: str) -> MatrixFormat | None:
        """The format of Q8_0, Q4_0 and Q4_1 matrices; other types have nested scales and are dequantized."""
        tensor, _ = self._sources[name]
        return GGUF_FORMATS.get(tensor.kind.name) if len(self.tensors[name].shape) == 2 else None

    def read_quantized(self, name: str) -> QuantizedTensor:
        """Read stored codes and scales."""
        tensor, expert = self._sources[name]
        raw = self._part_of[tensor.name].raw(tensor)
        return from_gguf(raw if expert is None else raw[expert], GGUF_FORMATS[tensor.kind.name])

    def release(self) -> None:
        """Release the memory of all parts."""
        for part in self._parts:
            release_memory(part.data)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids of end tokens in the metadata, and of control tokens known to end a turn."""
        listed = (self._metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom"))
        turn_ends = (self._control.get(token) for token in TURN_ENDS)
        return frozenset(token for token in (*listed, *turn_ends) if isinstance(token, int))

    def tokenizer(self) -> Tokenizer:
        """Build the tokenizer from the vocabulary and merges in the metadata."""
        model = self._metadata.get("tokenizer.ggml.model")
        if model != "gpt2":
            raise CheckpointError(
                f"The tokenizer of {self.path} is of kind {model!r}; only byte-level BPE ('gpt2') is known."
            )
        merges = (merge.partition(" ") for merge in self._strings("tokenizer.ggml.merges"))
        bos = self._metadata.get("tokenizer.ggml.bos_token_id")
        has_prefix = self._metadata.get("tokenizer.ggml.add_bos_token") is True
        return Tokenizer.from_vocabulary(
            {token: number for number, token in enumerate(self._tokens) if token not in self._control},
            [(left, right) for left, _, right in merges],
            self._control,
            splitter=str(self._metadata.get("tokenizer.ggml.pre", "default")),
            prefix=[bos] if has_prefix and isinstance(bos, int) else [],
        )

    @property
    def has_llama4_vocabulary(self) -> bool:
        """Whether the control tokens are Llama 4's."""
        return "tokenizer.ggml.tokens" in self._header.arrays and is_llama4(self._control)

    def chat_template(self) -> ChatTemplate | None:
        """The metadata's ``tokenizer.chat_template``."""
        source = self._metadata.get("tokenizer.chat_template")
        return ChatTemplate(source, self._special_tokens()) if isinstance(source, str) else None

    def _values(self, tensor: Tensor, expert: int | None = None, index: int | None = None) -> npt.NDArray[np.generic]:
        raw = self._part_of[tensor.name].raw(tensor)
        raw = raw if expert is None else raw[expert]
        raw = raw if index is None else raw[index]
        if tensor.kind.name in FULL_PRECISION:
            return raw.view(DTYPES[tensor.kind.name])
        try:
            with np.errstate(invalid="ignore", over="ignore"):  # loading checks for values that are not finite
                return dequantize(raw, tensor.kind)
        except NotImplementedError as error:
            raise CheckpointError(
                f"Tensor '{tensor.name}' of {self.path} is stored as {tensor.kind.name}, which cannot be read.",
                hint="Use a file quantized in another way, such as Q8_0 or Q4_K_M.",
            ) from error

    def _rope_factors(self, tensor: Tensor) -> list[float]:
        if math.prod(tensor.shape) > MAX_ROTATED_PAIRS:
            raise CheckpointError(f"{self.path} is a damaged GGUF file: {ROPE_FACTORS} is {list(tensor.shape)}.")
        return [float(value) for value in self._values(tensor).flatten().astype(float)]

    @cached_property
    def _tokens(self) -> list[str]:
        return self._strings("tokenizer.ggml.tokens")

    @cached_property
    def _control(self) -> dict[str, int]:
        types = self._header.numbers("tokenizer.ggml.token_type")
        ids = np.flatnonzero(np.isin(types, NON_TEXT_TYPES)).tolist()
        control = {self._tokens[token_id]: token_id for token_id in ids if token_id < len(self._tokens)}
        return {token: token_id for token, token_id in control.items() if token}

    def _strings(self, key: str) -> list[str]:
        try:
            strings = self._header.strings(key)
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{self.path} is a damaged GGUF file: '{key}' is no text.") from error
        if not strings:
            raise CheckpointError(f"{self.path} has no tokenizer: '{key}' is missing.")
        return strings

    def _special_tokens(self) -> dict[str, str]:
        ids = {kind: self._metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("bos", "eos")}
        return {
            f"{kind}_token": self._tokens[n]
            for kind, n in ids.items()
            if isinstance(n, int) and 0 <= n < len(self._tokens)
        }

    def _complete_metadata(self) -> dict[str, JsonValue]:
        """The metadata, with the vocabulary's size added where a file states it only by the length of its list."""
        tokens = self._header.arrays.get("tokenizer.ggml.tokens")
        key = f"{self._metadata.get('general.architecture')}.vocab_size"
        return ({} if tokens is None else {key: tokens.count}) | self._metadata


def _named_sources(tensor: Tensor) -> Iterator[tuple[str, tuple[Tensor, int | None]]]:
    """The common names of a stored tensor, with the expert's index where it stacks experts."""
    match = LAYER_TENSOR.fullmatch(tensor.name)
    prefix, kind = (f"model.layers.{match[1]}.", match[2]) if match else ("", "")
    if kind in LAYER_NAMES:
        yield f"{prefix}{LAYER_NAMES[kind]}.weight", (tensor, None)
    elif kind in EXPERT_NAMES and len(tensor.shape) == 3 and tensor.shape[0] <= MAX_MODULES:
        for expert in range(tensor.shape[0]):
            yield f"{prefix}feed_forward.experts.{expert}.{EXPERT_NAMES[kind]}.weight", (tensor, expert)
    else:
        yield GLOBAL_NAMES.get(tensor.name, tensor.name), (tensor, None)


def _info(tensor: Tensor, expert: int | None) -> TensorInfo:
    if expert is None:
        return TensorInfo(tensor.shape, tensor.kind.name, tensor.nbytes)
    return TensorInfo(tensor.shape[1:], tensor.kind.name, tensor.nbytes // tensor.shape[0])
