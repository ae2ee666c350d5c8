"""How a matrix lies in a file of weights: names, types and shapes, and the bytes of its codes.

    X.weight    full precision, [out, in]
    X.int4      uint8 [out, blocks, block / 2], two codes in each byte, the even input's in the lower half
    X.int8      uint8 [out, blocks, block]
    X.scales    [out, blocks]
    X.minima    [blocks, out], added to what the scales give; where there are such

Those are MatMulNBits' shapes: codes count from 8 and 128, and the last block is filled up with zeros. What is for plain
operators has the same with signed codes, and minima [out, blocks]. Experts have an axis [experts] in front of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from llama4sdk.quantization import MatrixFormat
from llama4sdk_onnx.export.weights.pieces import Array, Stored
from llama4sdk_onnx.export.weights.quantizing import Codes
from llama4sdk_onnx.manifest import Kind

__all__ = ["BLOCKS", "Layout", "block_size"]

#: The blocks that ONNX Runtime's kernels know, the largest first.
BLOCKS: Final = (128, 64, 32, 16)

#: A byte of codes that stand for zero.
ZEROS: Final = {("fast", 4): 0x88, ("fast", 8): 0x80, ("portable", 4): 0, ("portable", 8): 0}

#: The bits that differ from those of ``Codes``, which count from 8 and 0.
FLIPPED: Final = {("fast", 4): 0, ("fast", 8): 0x80, ("portable", 4): 0x88, ("portable", 8): 0}


def block_size(form: MatrixFormat, inputs: int) -> int | None:
    """The largest block that lies within one group, and is not much larger than the matrix is wide.

    ``None`` where the groups are such that there is none.
    """
    whole = form.group_size is None or form.group_size >= inputs
    fit = [block for block in BLOCKS if whole or form.group_size is None or form.group_size % block == 0]
    even = [block for block in fit if whole and inputs % block == 0]
    return next((block for block in even + fit if block < 2 * inputs), fit[-1] if fit else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One matrix, or one stack of experts."""

    name: str
    kind: Kind
    form: MatrixFormat
    #: Of full precision, and of scales.
    dtype: np.dtype[np.generic]
    rows: int
    inputs: int
    block: int
    experts: int | None = None

    @property
    def bits(self) -> int:
        """Of a code."""
        return self.form.scheme.bits

    @property
    def blocks(self) -> int:
        """Of one row."""
        return -(-self.inputs // self.block)

    @property
    def tensors(self) -> tuple[Stored, ...]:
        """What it becomes in a file."""
        if self.form.scheme.full_precision:
            return (self._stored("weight", self.dtype, self.rows, self.inputs),)
        minima = (self.blocks, self.rows) if self.kind == "fast" else (self.rows, self.blocks)
        return (
            self._stored(f"int{self.bits}", np.dtype(np.uint8), self.rows, self.blocks, self.block * self.bits // 8),
            self._stored("scales", self.dtype, self.rows, self.blocks),
            *([self._stored("minima", self.dtype, *minima)] if self.form.minimum else []),
        )

    def codes(self, part: Codes) -> Array:
        """The bytes of some rows, [rows, bytes]."""
        width = self.blocks * self.block * self.bits // 8
        found = part.codes.view(np.uint8)
        codes = np.full((len(found), width), ZEROS[self.kind, self.bits], np.uint8)
        np.bitwise_xor(found, np.uint8(FLIPPED[self.kind, self.bits]), out=codes[:, : found.shape[1]])
        return codes

    def scales(self, part: Codes) -> Array:
        """Of some rows, [rows, blocks]."""
        return self._blockwise(part.scale).astype(self.dtype)

    def minima(self, part: Codes) -> list[Array]:
        """Of some rows, [rows, blocks], if there are any: what is to be added where codes are taken to count from 8."""
        return [] if part.minimum is None else [self._blockwise(part.minimum + 8 * part.scale).astype(self.dtype)]

    def _blockwise(self, values: Array) -> Array:
        group = self.form.group_size or self.inputs
        return values[:, np.minimum(np.arange(self.blocks) * self.block // group, values.shape[1] - 1)]

    def _stored(self, suffix: str, dtype: np.dtype[np.generic], *shape: int) -> Stored:
        front = () if self.experts is None else (self.experts,)
        return Stored(f"{self.name}.{suffix}", dtype, (*front, *shape))
