"""The files of Meta's tensor-parallel ranks as one network; tensors and experts are assembled when they are read.

Every rank has a slice of most tensors, along an axis that differs by tensor. Experts are sliced inside a matrix that
stacks them all. Experts of 8-bit floats have scales in a separate file for each rank, one for each output of the rank's
slice of an expert.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.checkpoint import TensorInfo
from llama4sdk.weights.formats.pth import FLOAT8, TorchFile

Array = npt.NDArray[np.generic]

ENCODER: Final = "vision_embeddings.vision_encoder."
ADAPTER: Final = "vision_embeddings.vision_adapter.mlp."
#: Prefix of a layer's tensors here, the common prefix, and a mark that tells vision layers apart in the tables below.
LAYER_PREFIXES: Final = (
    (re.compile(r"layers\.(\d+)\."), "model.layers.{}.", ""),
    (re.compile(re.escape(ENCODER) + r"transformer\.resblocks\.(\d+)\."), "vision_model.model.layers.{}.", "block."),
)

KINDS: Final = ("weight", "bias")
#: Tensors that every rank has in full, with their common names.
REPLICATED: Final = {
    "norm.weight": "model.norm.weight",
    "attention.wqkv.layer_norm_weight": "input_layernorm.weight",
    "feed_forward.norm.weight": "post_attention_layernorm.weight",
    "feed_forward.mlp.layer_norm_weight": "post_attention_layernorm.weight",
    **{f"block.ln_1.{kind}": f"input_layernorm.{kind}" for kind in KINDS},
    **{f"block.ln_2.{kind}": f"post_attention_layernorm.{kind}" for kind in KINDS},
    "block.attn.wo.bias": "self_attn.o_proj.bias",
    "block.mlp.c_proj.bias": "mlp.fc2.bias",
    **{
        f"{ENCODER}ln_{end}.{kind}": f"vision_model.layernorm_{end}.{kind}" for end in ("pre", "post") for kind in KINDS
    },
    f"{ENCODER}class_embedding": "vision_model.class_embedding",
    f"{ENCODER}positional_embedding_vlm": "vision_model.positional_embedding_vlm",
}
#: Tensors sliced along an axis: common name and axis.
SLICED: Final = {
    "tok_embeddings.weight": ("model.embed_tokens.weight", 0),
    "output.weight": ("lm_head.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w_in_shared_FD.weight": ("feed_forward.shared_expert.gate_proj.weight", 0),
    "feed_forward.w_swiglu_FD.weight": ("feed_forward.shared_expert.up_proj.weight", 0),
    "feed_forward.w_out_shared_DF.weight": ("feed_forward.shared_expert.down_proj.weight", 1),
    "feed_forward.mlp.fc2_weight": ("feed_forward.down_proj.weight", 1),
    **{f"block.attn.w{part}.{kind}": (f"self_attn.{part}_proj.{kind}", 0) for part in "qkv" for kind in KINDS},
    "block.attn.wo.weight": ("self_attn.o_proj.weight", 1),
    **{f"block.mlp.c_fc.{kind}": (f"mlp.fc1.{kind}", 0) for kind in KINDS},
    "block.mlp.c_proj.weight": ("mlp.fc2.weight", 1),
    f"{ENCODER}conv1._linear.weight": ("vision_model.patch_embedding.linear.weight", 0),
    f"{ADAPTER}c_fc.weight": ("vision_model.vision_adapter.mlp.fc1.weight", 0),
    f"{ADAPTER}c_proj.weight": ("vision_model.vision_adapter.mlp.fc2.weight", 1),
    "vision_projection.weight": ("multi_modal_projector.linear_1.weight", 0),
}
#: Tensors that stack each rank's slices of several matrices, with the matrices' common names.
STACKED: Final = {
    "attention.wqkv.weight": tuple(f"self_attn.{part}_proj.weight" for part in "qkv"),
    "feed_forward.mlp.fc1_weight": ("feed_forward.gate_proj.weight", "feed_forward.up_proj.weight"),
}
#: Tensors that stack all experts' [in, out] matrices: common name of a matrix, sliced axis, name of the scales.
EXPERTS: Final = {
    "feed_forward.experts.moe_w_in_eD_F": ("gate_proj", 1, "feed_forward.experts.w1"),
    "feed_forward.experts.moe_w_swiglu_eD_F": ("up_proj", 1, "feed_forward.experts.w3"),
    "feed_forward.experts.moe_w_out_eF_D": ("down_proj", 0, "feed_forward.experts.w2"),
}
ROUTER: Final = "feed_forward.router_DE"
IGNORED: Final = re.compile(r".*_extra_state$|rope\.freqs$|freqs?_cis$|.*(gate_stats_3E|expert_activation_DE)$")


class MetaShards:
    """The memory-mapped ``consolidated.NN.pth`` of a directory. Raises CheckpointError and ValueError.

    ``heads`` are the numbers of query heads and of key/value heads.
    """

    def __init__(self, folder: Path, heads: tuple[int, int]) -> None:
        self._folder = folder
        self._head_ratio = tuple(count // math.gcd(*heads) for count in (*heads, heads[1]))
        present = {file.name for file in folder.glob("consolidated.*.pth")}
        names = [f"consolidated.{rank:02}.pth" for rank in range(max(len(present), 1))]
        if missing := sorted(set(names) - present):
            raise ValueError(f"{missing[0]} is missing")
        self._files = [TorchFile(folder / name) for name in names]
        scales = [folder / f"fp8_scales_{rank}.pt" for rank in range(len(names))]
        self._scales = [TorchFile(path) if path.is_file() else None for path in scales]
        self._readers = dict(self._tensor_readers())
        self.tensors = {name: info for name, (info, _) in self._readers.items()}

    def read(self, name: str) -> Array:
        """Read a tensor by its common name."""
        return self._readers[name][1]()

    def release(self) -> None:
        """Release the memory of all files."""
        for file in filter(None, (*self._files, *self._scales)):
            file.release()

    def _tensor_readers(self) -> Iterator[tuple[str, tuple[TensorInfo, _Slices]]]:
        """Every tensor by its common name, with its slices."""
        for stored, info in self._files[0].tensors.items():
            prefix, part = _split_name(stored)
            if IGNORED.match(part):
                continue
            if any(stored not in rank.tensors or rank.tensors[stored].dtype != info.dtype for rank in self._files):
                raise ValueError(f"'{stored}' is not in every consolidated.*.pth alike")
            for name, slices in self._parts(stored, part):
                yield prefix + name, (TensorInfo(slices.shape, info.dtype, slices.nbytes), slices)

    def _parts(self, stored: str, part: str) -> Iterator[tuple[str, _Slices]]:
        slices = [rank.read(stored) for rank in self._files]  # views: no values are read yet
        if part in EXPERTS:
            yield from self._experts(stored, part, slices)
        elif self._files[0].tensors[stored].dtype == FLOAT8:
            raise ValueError(f"'{stored}' is stored as {FLOAT8}, which only routed experts are")
        elif part in REPLICATED:
            yield REPLICATED[part], _Slices(slices[:1], 0)
        elif part == ROUTER:
            yield "feed_forward.router.weight", _Slices(slices[:1], 0, transposed=True)
        elif part in SLICED:
            name, axis = SLICED[part]
            yield name, _Slices(slices, axis)
        elif part in STACKED:
            ratio = self._head_ratio if part.startswith("attention") else (1, 1)
            for n, name in enumerate(STACKED[part]):
                yield name, _Slices([_row_block(matrix, ratio, n) for matrix in slices], 0)
        else:
            yield part, _Slices(slices[:1], 0)

    def _experts(self, stored: str, part: str, slices: list[Array]) -> Iterator[tuple[str, _Slices]]:
        kind, axis, scale_name = EXPERTS[part]
        router = self._files[0].tensors[next(n for n in self._files[0].tensors if n.endswith(ROUTER))]
        count = router.shape[1]
        stacks = [matrix.reshape(count, -1, matrix.shape[1]) for matrix in slices]  # [experts, in, out]
        scales: list[Array] | None = None  # [experts, out]
        if self._files[0].tensors[stored].dtype == FLOAT8:
            key = stored.removesuffix(part) + scale_name
            scales = [self._read_scale(rank, key).reshape(count, stack.shape[2]) for rank, stack in enumerate(stacks)]
        for expert in range(count):
            expert_scales = None if scales is None else [scale[expert] for scale in scales]
            name = f"feed_forward.experts.{expert}.{kind}.weight"
            yield name, _Slices([stack[expert] for stack in stacks], axis, expert_scales, transposed=True)

    def _read_scale(self, rank: int, key: str) -> Array:
        file = self._scales[rank]
        if file is not None and key in file.tensors:
            return file.read(key)
        if (other := self._folder / f"int4_scales_{rank}.pt").is_file():
            raise CheckpointError(
                f"{self._folder} is quantized to int4 in Meta's own way, as {other.name} says, which cannot be read.",
                hint="Use the weights it was made from, or a GGUF file such as Q4_K_M.",
            )
        problem = "is not there" if file is None else f"has no '{key}'"
        raise CheckpointError(
            f"{self._folder} holds experts of 8-bit floats, but their scales' file fp8_scales_{rank}.pt {problem}.",
            hint="Fetch the missing file.",
        )


class _Slices:
    """The ranks' slices of a matrix and the axis they are joined along; calling it reads and joins them.

    ``transposed`` if the matrix is stored [in, out].
    """

    def __init__(
        self, slices: Sequence[Array], axis: int, scales: Sequence[Array] | None = None, *, transposed: bool = False
    ) -> None:
        self._slices = slices
        self._axis = axis
        self._scales = scales
        self._transposed = transposed
        if len({part.shape for part in slices}) != 1:
            raise ValueError(f"the ranks' pieces of a tensor are of shapes {[list(part.shape) for part in slices]}")
        shape = list(slices[0].shape)
        shape[axis] *= len(slices)
        self.shape = tuple(reversed(shape) if transposed else shape)
        self.nbytes = sum(part.nbytes for part in (*slices, *(scales or ())))

    def __call__(self) -> Array:
        slices = self._slices
        if self._scales is not None:
            pairs = zip(slices, self._scales, strict=True)
            with np.errstate(invalid="ignore", over="ignore"):  # loading checks for values that are not finite
                slices = [part.astype(np.float32) * scale.astype(np.float32) for part, scale in pairs]
        matrix = slices[0] if len(slices) == 1 else np.concatenate(slices, axis=self._axis)
        return matrix.T if self._transposed else matrix


def _split_name(stored: str) -> tuple[str, str]:
    """The prefix of a tensor's common name, and the rest of its stored name, which is a key of the tables above."""
    for pattern, prefix, mark in LAYER_PREFIXES:
        if match := pattern.match(stored):
            return prefix.format(match[1]), mark + stored[match.end() :]
    return "", stored


def _row_block(matrix: Array, ratio: tuple[int, ...], number: int) -> Array:
    """The rows of the ``number``-th block of a matrix whose blocks' heights are in this ratio."""
    if len(matrix) % sum(ratio):
        raise ValueError(f"{len(matrix)} rows do not divide into {' : '.join(map(str, ratio))}")
    unit = len(matrix) // sum(ratio)
    start = unit * sum(ratio[:number])
    return matrix[start : start + unit * ratio[number]]
