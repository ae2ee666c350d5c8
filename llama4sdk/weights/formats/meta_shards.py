"""The files of Meta's ranks as one network: each tensor, and each expert, put together when it is read.

Every rank has a slice of most tensors. Which axis was cut differs by tensor, and experts are cut inside a matrix that
stacks them all. Experts of 8-bit floats have scales in a file of their own beside each rank's, a number for each output
that this rank's slice of an expert makes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.checkpoint import TensorInfo
from llama4sdk.weights.formats.pth import EIGHT_BITS, TorchFile

__all__ = ["Ranks"]

Array = npt.NDArray[np.generic]

ENCODER: Final = "vision_embeddings.vision_encoder."
ADAPTER: Final = "vision_embeddings.vision_adapter.mlp."
#: How the tensors of a layer begin; their common beginning; and what tells the two kinds apart below.
LAYERS: Final = (
    (re.compile(r"layers\.(\d+)\."), "model.layers.{}.", ""),
    (re.compile(re.escape(ENCODER) + r"transformer\.resblocks\.(\d+)\."), "vision_model.model.layers.{}.", "block."),
)

BOTH: Final = ("weight", "bias")
#: Every rank has all of these.
WHOLE: Final = {
    "norm.weight": "model.norm.weight",
    "attention.wqkv.layer_norm_weight": "input_layernorm.weight",
    "feed_forward.norm.weight": "post_attention_layernorm.weight",
    "feed_forward.mlp.layer_norm_weight": "post_attention_layernorm.weight",
    **{f"block.ln_1.{kind}": f"input_layernorm.{kind}" for kind in BOTH},
    **{f"block.ln_2.{kind}": f"post_attention_layernorm.{kind}" for kind in BOTH},
    "block.attn.wo.bias": "self_attn.o_proj.bias",
    "block.mlp.c_proj.bias": "mlp.fc2.bias",
    **{f"{ENCODER}ln_{end}.{kind}": f"vision_model.layernorm_{end}.{kind}" for end in ("pre", "post") for kind in BOTH},
    f"{ENCODER}class_embedding": "vision_model.class_embedding",
    f"{ENCODER}positional_embedding_vlm": "vision_model.positional_embedding_vlm",
}
#: Cut along this axis.
CUT: Final = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", 0),
    "output.weight": ("lm_head.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w_in_shared_FD.weight": ("feed_forward.shared_expert.gate_proj.weight", 0),
    "feed_forward.w_swiglu_FD.weight": ("feed_forward.shared_expert.up_proj.weight", 0),
    "feed_forward.w_out_shared_DF.weight": ("feed_forward.shared_expert.down_proj.weight", 1),
    "feed_forward.mlp.fc2_weight": ("feed_forward.down_proj.weight", 1),
    **{f"block.attn.w{part}.{kind}": (f"self_attn.{part}_proj.{kind}", 0) for part in "qkv" for kind in BOTH},
    "block.attn.wo.weight": ("self_attn.o_proj.weight", 1),
    **{f"block.mlp.c_fc.{kind}": (f"mlp.fc1.{kind}", 0) for kind in BOTH},
    "block.mlp.c_proj.weight": ("mlp.fc2.weight", 1),
    f"{ENCODER}conv1._linear.weight": ("vision_model.patch_embedding.linear.weight", 0),
    f"{ADAPTER}c_fc.weight": ("vision_model.vision_adapter.mlp.fc1.weight", 0),
    f"{ADAPTER}c_proj.weight": ("vision_model.vision_adapter.mlp.fc2.weight", 1),
    "vision_projection.weight": ("multi_modal_projector.linear_1.weight", 0),
}
#: Each rank's slices of several matrices, one below the other.
STACKED: Final = {
    "attention.wqkv.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
    "feed_forward.mlp.fc1_weight": ("feed_forward.gate_proj.weight", "feed_forward.up_proj.weight"),
}
#: All experts' [in, out] matrices, one below the other: which they are, the axis cut, what their scales are called.
EXPERTS: Final = {
    "feed_forward.experts.moe_w_in_eD_F": ("gate_proj", 1, "feed_forward.experts.w1"),
    "feed_forward.experts.moe_w_swiglu_eD_F": ("up_proj", 1, "feed_forward.experts.w3"),
    "feed_forward.experts.moe_w_out_eF_D": ("down_proj", 0, "feed_forward.experts.w2"),
}
ROUTER: Final = "feed_forward.router_DE"
IGNORED: Final = re.compile(r".*_extra_state$|rope\.freqs$|freqs?_cis$|.*(gate_stats_3E|expert_activation_DE)$")


class Ranks:
    """The ``consolidated.NN.pth`` of a directory, mapped while this lives. Raises CheckpointError and ValueError.

    ``heads`` are how many there are of queries, and of keys and values.
    """

    def __init__(self, folder: Path, heads: tuple[int, int]) -> None:
        self._folder = folder
        self._share_of_heads = tuple(count // math.gcd(*heads) for count in (*heads, heads[1]))
        found = {file.name for file in folder.glob("consolidated.*.pth")}
        names = [f"consolidated.{rank:02}.pth" for rank in range(max(len(found), 1))]
        if lost := sorted(set(names) - found):
            raise ValueError(f"{lost[0]} is missing")
        self._files = [TorchFile(folder / name) for name in names]
        self._scales = [self._scales_of(rank) for rank in range(len(self._files))]
        self._readers = dict(self._assembled())
        self.tensors = {name: info for name, (info, _) in self._readers.items()}

    def read(self, name: str) -> Array:
        """One tensor by its common name."""
        return self._readers[name][1]()

    def release(self) -> None:
        """See ``Checkpoint.release``."""
        for file in filter(None, (*self._files, *self._scales)):
            file.release()

    def _scales_of(self, rank: int) -> TorchFile | None:
        path = self._folder / f"fp8_scales_{rank}.pt"
        return TorchFile(path) if path.is_file() else None

    def _assembled(self) -> Iterator[tuple[str, _Entry]]:
        """Every tensor by its common name: what it is, and how it is read."""
        for stored, info in self._files[0].tensors.items():
            prefix, part = _place(stored)
            if IGNORED.match(part):
                continue
            if any(stored not in rank.tensors or rank.tensors[stored].dtype != info.dtype for rank in self._files):
                raise ValueError(f"'{stored}' is not in every consolidated.*.pth alike")
            for name, pieces, turned in self._parts(stored, part):
                yield prefix + name, _entry(info, pieces, turned=turned)

    def _parts(self, stored: str, part: str) -> Iterator[_Part]:
        slices = [rank.read(stored) for rank in self._files]  # views: nothing is read yet
        if part in EXPERTS:
            yield from self._experts(stored, part, slices)
        elif self._files[0].tensors[stored].dtype == EIGHT_BITS:
            raise ValueError(f"'{stored}' is stored as {EIGHT_BITS}, which only routed experts are")
        elif part in WHOLE:
            yield WHOLE[part], _Pieces(slices[:1], 0), False
        elif part == ROUTER:
            yield "feed_forward.router.weight", _Pieces(slices[:1], 0), True
        elif part in CUT:
            name, axis = CUT[part]
            yield name, _Pieces(slices, axis), False
        elif part in STACKED:
            shares = self._share_of_heads if part.startswith("attention") else (1, 1)
            for n, name in enumerate(STACKED[part]):
                yield name, _Pieces([_share(matrix, shares, n) for matrix in slices], 0), False
        else:
            yield part, _Pieces(slices[:1], 0), False

    def _experts(self, stored: str, part: str, slices: list[Array]) -> Iterator[_Part]:
        kind, axis, scaled = EXPERTS[part]
        router = self._files[0].tensors[next(n for n in self._files[0].tensors if n.endswith(ROUTER))]
        count = router.shape[1]
        stacks = [matrix.reshape(count, -1, matrix.shape[1]) for matrix in slices]  # [experts, in, out]
        scales: list[Array] | None = None  # [experts, out]
        if self._files[0].tensors[stored].dtype == EIGHT_BITS:
            key = stored.removesuffix(part) + scaled
            scales = [self._scale(rank, key).reshape(count, stack.shape[2]) for rank, stack in enumerate(stacks)]
        for expert in range(count):
            own = None if scales is None else [scale[expert] for scale in scales]
            name = f"feed_forward.experts.{expert}.{kind}.weight"
            yield name, _Pieces([stack[expert] for stack in stacks], axis, own), True

    def _scale(self, rank: int, key: str) -> Array:
        file = self._scales[rank]
        if file is not None and key in file.tensors:
            return file.read(key)
        if (other := self._folder / f"int4_scales_{rank}.pt").is_file():
            raise CheckpointError(
                f"{self._folder} is quantized to int4 in Meta's own way, as {other.name} says, which cannot be read.",
                hint="Use the weights it was made from, or a GGUF file such as Q4_K_M.",
            )
        lack = "is not there" if file is None else f"has no '{key}'"
        raise CheckpointError(
            f"{self._folder} holds experts of 8-bit floats, but their scales' file fp8_scales_{rank}.pt {lack}.",
            hint="Fetch the missing file.",
        )


class _Pieces:
    """The ranks' pieces of one matrix, and the axis they are put together along; each with scales of its columns."""

    def __init__(self, pieces: Sequence[Array], axis: int, scales: Sequence[Array] | None = None) -> None:
        self._pieces = pieces
        self._axis = axis
        self._scales = scales
        if len({piece.shape for piece in pieces}) != 1:
            raise ValueError(f"the ranks' pieces of a tensor are of shapes {[list(piece.shape) for piece in pieces]}")
        shape = list(pieces[0].shape)
        shape[axis] *= len(pieces)
        self.shape = tuple(shape)
        self.scale_bytes = sum(scale.nbytes for scale in scales or ())

    def __call__(self) -> Array:
        pieces = self._pieces
        if self._scales is not None:
            pairs = zip(pieces, self._scales, strict=True)
            with np.errstate(invalid="ignore", over="ignore"):  # whoever loads them looks for what is not finite
                pieces = [piece.astype(np.float32) * scale.astype(np.float32) for piece, scale in pairs]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=self._axis)


_Part = tuple[str, _Pieces, bool]
_Entry = tuple[TensorInfo, Callable[[], Array]]


def _place(stored: str) -> tuple[str, str]:
    """The beginning of a tensor's common name, and which part of a layer or of the network it is."""
    for pattern, prefix, mark in LAYERS:
        if found := pattern.match(stored):
            return prefix.format(found[1]), mark + stored[found.end() :]
    return "", stored


def _entry(stored: TensorInfo, pieces: _Pieces, *, turned: bool) -> _Entry:
    """``turned``: stored [in, out]."""
    shape = pieces.shape[::-1] if turned else pieces.shape
    itemsize = stored.nbytes // max(stored.size, 1)
    info = TensorInfo(shape, stored.dtype, itemsize * math.prod(shape) + pieces.scale_bytes)
    return info, (lambda: pieces().T) if turned else pieces


def _share(matrix: Array, shares: tuple[int, ...], number: int) -> Array:
    """The rows of a matrix that are its ``number``-th part, when its parts are as ``shares`` to each other."""
    if len(matrix) % sum(shares):
        raise ValueError(f"{len(matrix)} rows do not divide into {' : '.join(map(str, shares))}")
    unit = len(matrix) // sum(shares)
    start = unit * sum(shares[:number])
    return matrix[start : start + unit * shares[number]]
