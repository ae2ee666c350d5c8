"""Meta's original directories: ``params.json`` and a ``consolidated.NN.pth`` for each of the ranks it was trained on.

Every rank has a slice of most tensors. Which axis was cut differs by tensor, and experts are cut inside a matrix that
stacks them all; here each tensor, and each expert, is put together when it is read. The vision tower is not read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue, ValidationError

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import RopeScaling, TextConfig, layer_count, number
from llama4sdk.llama4.template import ChatTemplate
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.weights.checkpoint import Checkpoint, GenerationDefaults, TensorInfo, commonest_dtype
from llama4sdk.weights.hf import has_llama4_tokenizer, read_json, read_text, read_tokenizer
from llama4sdk.weights.torch_file import TorchFile

__all__ = ["MetaCheckpoint"]

Array = npt.NDArray[np.generic]

PUBLISHED_CONTEXT: Final = 262144
"""Tokens. The directory does not say; the base models have this, the instruct models more."""
TURN_ENDS: Final = ("<|end_of_text|>", "<|eom|>", "<|eot|>")

WHOLE: Final = {
    "norm.weight": "model.norm.weight",
    "attention.wqkv.layer_norm_weight": "input_layernorm.weight",
    "feed_forward.norm.weight": "post_attention_layernorm.weight",
    "feed_forward.mlp.layer_norm_weight": "post_attention_layernorm.weight",
}
"""Every rank has all of these."""
CUT: Final = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", 0),
    "output.weight": ("lm_head.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w_in_shared_FD.weight": ("feed_forward.shared_expert.gate_proj.weight", 0),
    "feed_forward.w_swiglu_FD.weight": ("feed_forward.shared_expert.up_proj.weight", 0),
    "feed_forward.w_out_shared_DF.weight": ("feed_forward.shared_expert.down_proj.weight", 1),
    "feed_forward.mlp.fc2_weight": ("feed_forward.down_proj.weight", 1),
}
"""Cut along this axis."""
STACKED: Final = {
    "attention.wqkv.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
    "feed_forward.mlp.fc1_weight": ("feed_forward.gate_proj.weight", "feed_forward.up_proj.weight"),
}
"""Each rank's slices of several matrices, one below the other."""
EXPERTS: Final = {
    "feed_forward.experts.moe_w_in_eD_F": ("gate_proj", 1),
    "feed_forward.experts.moe_w_swiglu_eD_F": ("up_proj", 1),
    "feed_forward.experts.moe_w_out_eF_D": ("down_proj", 0),
}
"""All experts' [in, out] matrices, one below the other; each one was cut along this axis."""
ROUTER: Final = "feed_forward.router_DE"
IGNORED: Final = re.compile(
    r".*_extra_state$|rope\.freqs$|freqs?_cis$|vision_.*|.*(gate_stats_3E|expert_activation_DE)$"
)


class MetaCheckpoint(Checkpoint):
    """A directory as ``llama download`` leaves it; the files stay mapped while this lives."""

    format: ClassVar[str] = "Meta"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.resolve().name
        self._ranks = [TorchFile(file) for file in sorted(path.glob("consolidated.*.pth"))]
        params = read_json(path / "params.json", needed=True)
        try:
            self._readers = dict(self._assembled(layer_count(params, "n_layers"), _heads(params)))
            self.config = _config(params, {name: info.shape for name, (info, _) in self._readers.items()})
        except (ValidationError, KeyError, TypeError, ValueError, ArithmeticError) as error:
            missing = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(f"{path} does not hold a Llama 4 network in Meta's form: {missing}.") from error
        self.tensors = {name: info for name, (info, _) in self._readers.items()}
        self.dtype = commonest_dtype(self.tensors)
        self.generation_defaults = GenerationDefaults()

    def read(self, name: str, index: int | None = None) -> Array:
        """As the base class says; put together from the ranks."""
        values = self._readers[name][1]()
        return values if index is None else values[index]

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Llama 4's ends of text, message and turn."""
        control = self.tokenizer().control
        return frozenset(control[token] for token in TURN_ENDS if token in control)

    def tokenizer(self) -> Tokenizer:
        """Read from ``tokenizer.model``, or a ``tokenizer.json`` that was put beside the weights."""
        return read_tokenizer(self.path)

    @property
    def has_llama4_vocabulary(self) -> bool:
        """Looked up without building the tokenizer."""
        return has_llama4_tokenizer(self.path)

    def chat_template(self) -> ChatTemplate | None:
        """``chat_template.jinja``, where one was put beside the weights."""
        file = self.path / "chat_template.jinja"
        return ChatTemplate(read_text(file)) if file.is_file() else None

    def _assembled(self, layers: int, heads: tuple[int, int]) -> Iterator[tuple[str, _Entry]]:
        """Every tensor by its common name: what it is, and how it is read."""
        if not self._ranks:
            raise ValueError("it has no consolidated.*.pth")
        for stored, info in self._ranks[0].tensors.items():
            found = re.match(r"layers\.(\d+)\.(.*)", stored)
            prefix, part = (f"model.layers.{found[1]}.", found[2]) if found else ("", stored)
            if IGNORED.match(part):
                continue
            if any(stored not in rank.tensors or rank.tensors[stored].dtype != info.dtype for rank in self._ranks):
                raise ValueError(f"'{stored}' is not in every consolidated.*.pth alike")
            for name, pieces, turned in self._parts(stored, part, heads):
                yield prefix + name, _entry(info, pieces, turned=turned)

    def _parts(self, stored: str, part: str, heads: tuple[int, int]) -> Iterator[_Part]:
        slices = [rank.read(stored) for rank in self._ranks]  # views: nothing is read yet
        if part in WHOLE:
            yield WHOLE[part], _Pieces(slices[:1], 0), False
        elif part == ROUTER:
            yield "feed_forward.router.weight", _Pieces(slices[:1], 0), True
        elif part in CUT:
            name, axis = CUT[part]
            yield name, _Pieces(slices, axis), False
        elif part in STACKED:
            shares = (*heads, heads[1]) if part.startswith("attention") else (1, 1)
            for n, name in enumerate(STACKED[part]):
                yield name, _Pieces([_share(matrix, shares, n) for matrix in slices], 0), False
        elif part in EXPERTS:
            yield from self._experts(part, slices)
        else:
            yield part, _Pieces(slices[:1], 0), False

    def _experts(self, part: str, slices: list[Array]) -> Iterator[_Part]:
        kind, axis = EXPERTS[part]
        router = self._ranks[0].tensors[next(n for n in self._ranks[0].tensors if n.endswith(ROUTER))]
        stacks = [matrix.reshape(router.shape[1], -1, matrix.shape[1]) for matrix in slices]  # [experts, in, out]
        for expert in range(router.shape[1]):
            name = f"feed_forward.experts.{expert}.{kind}.weight"
            yield name, _Pieces([stack[expert] for stack in stacks], axis), True


class _Pieces:
    """The ranks' pieces of one matrix, and the axis they are put together along."""

    def __init__(self, pieces: list[Array], axis: int) -> None:
        self._pieces = pieces
        self._axis = axis
        if len({piece.shape for piece in pieces}) != 1:
            raise ValueError(f"the ranks' pieces of a tensor are of shapes {[list(piece.shape) for piece in pieces]}")
        shape = list(pieces[0].shape)
        shape[axis] *= len(pieces)
        self.shape = tuple(shape)

    def __call__(self) -> Array:
        return self._pieces[0] if len(self._pieces) == 1 else np.concatenate(self._pieces, axis=self._axis)


_Part = tuple[str, _Pieces, bool]
_Entry = tuple[TensorInfo, Callable[[], Array]]


def _entry(stored: TensorInfo, pieces: _Pieces, *, turned: bool) -> _Entry:
    """``turned``: stored [in, out]."""
    shape = pieces.shape[::-1] if turned else pieces.shape
    itemsize = stored.nbytes // max(stored.size, 1)
    info = TensorInfo(shape, stored.dtype, itemsize * math.prod(shape))
    return info, (lambda: pieces().T) if turned else pieces


def _share(matrix: Array, shares: tuple[int, ...], number: int) -> Array:
    """The rows of a matrix that are its ``number``-th part, when its parts are as ``shares`` to each other."""
    if len(matrix) % sum(shares):
        raise ValueError(f"{len(matrix)} rows do not divide into {' : '.join(map(str, shares))}")
    unit = len(matrix) // sum(shares)
    start = unit * sum(shares[:number])
    return matrix[start : start + unit * shares[number]]


def _heads(params: Mapping[str, JsonValue]) -> tuple[int, int]:
    """Of queries, and of keys and values."""
    heads = int(number(params, "n_heads"))
    return heads, int(number(params, "n_kv_heads", heads))


def _config(params: Mapping[str, JsonValue], shapes: Mapping[str, tuple[int, ...]]) -> TextConfig:
    """Sizes are those of the tensors: ``params.json`` has them only by way of a formula."""
    layers = layer_count(params, "n_layers")
    heads, kv_heads = _heads(params)
    moe = frozenset(n for n in range(layers) if f"model.layers.{n}.feed_forward.router.weight" in shapes)
    router = shapes[f"model.layers.{min(moe)}.feed_forward.router.weight"] if moe else (0, 0)
    vocabulary, hidden = shapes["model.embed_tokens.weight"]
    interval = int(number(params, "nope_layer_interval", 0))
    nope = frozenset(range(interval - 1, layers, interval)) if interval else frozenset[int]()
    chunk = int(number(params, "attention_chunk_size", 0)) or None
    mixture = params.get("moe_args")
    return TextConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=int(number(params, "head_dim", hidden // heads)),
        expert_size=_width(shapes, "feed_forward.shared_expert.gate_proj.weight"),
        dense_size=_width(shapes, "feed_forward.gate_proj.weight"),
        num_experts=router[0],
        experts_per_token=int(number(mixture, "top_k", 1)) if isinstance(mixture, Mapping) else 1,
        moe_layers=moe,
        nope_layers=nope,
        chunked_layers=frozenset(range(layers)) - nope if chunk else frozenset(),
        chunk_size=chunk,
        rope_theta=number(params, "rope_theta", 500000.0),
        rope_scaling=_scaling(params) if params.get("use_scaled_rope") else None,
        qk_norm=bool(params.get("use_qk_norm", False)),
        temperature_tuning=bool(params.get("attn_temperature_tuning", True)),
        floor_scale=number(params, "floor_scale", 8192),
        attn_scale=number(params, "attn_scale", 0.1),
        norm_eps=number(params, "norm_eps", 1e-5),
        max_context=PUBLISHED_CONTEXT,
    )


def _scaling(params: Mapping[str, JsonValue]) -> RopeScaling:
    """Scout's, whose values were shipped in Meta's code and not in the file."""
    return RopeScaling(
        factor=number(params, "rope_scaling_factor", 16),
        low_freq_factor=1,
        high_freq_factor=number(params, "rope_high_freq_factor", 1),
        original_context=8192,
    )


def _width(shapes: Mapping[str, tuple[int, ...]], part: str) -> int:
    """The inner width of the first feed-forward part of this name; 1, which nothing uses, where there is none."""
    return next((shape[0] for name, shape in shapes.items() if name.endswith(part)), 1)
