"""The layout of a matrix in a file of weights: names, types and shapes, and the bytes of its codes.

    X.weight    full precision, [out, in]
    X.int4      uint8 [out, blocks, block / 2], two codes in each byte, the even input's in the lower half
    X.int8      uint8 [out, blocks, block]
    X.scales    [out, blocks]
    X.minima    [blocks, out], added to code times scale; in checkpoints that have minima

Those are MatMulNBits' shapes: codes count from 8 and 128, and the last block is filled up with zeros. Portable graphs
have signed codes, and minima [out, blocks]. Tensors of experts have an axis [experts] in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from llama4sdk.quantization import MatrixFormat
from llama4sdk_onnx.export.weights.quantize import Codes
from llama4sdk_onnx.export.weights.weight_file import Array, StoredTensor
from llama4sdk_onnx.manifest import Kind

#: The block sizes that ONNX Runtime's kernels support, the largest first.
BLOCK_SIZES: Final = (128, 64, 32, 16)

#: A byte of codes for zero.
ZERO_BYTE: Final = {("fast", 4): 0x88, ("fast", 8): 0x80, ("portable", 4): 0, ("portable", 8): 0}

#: The bits that differ from those of ``Codes``, which count from 8 and 0.
FLIPPED_BITS: Final = {("fast", 4): 0, ("fast", 8): 0x80, ("portable", 4): 0x88, ("portable", 8): 0}


def block_size(form: MatrixFormat, inputs: int) -> int | None:
    """The largest block that divides a group, and is less than twice as long as a row.

    ``None`` where no block divides a group.
    """
    one_group = form.group_size is None or form.group_size >= inputs
    fit = [block for block in BLOCK_SIZES if one_group or form.group_size is None or form.group_size % block == 0]
    even = [block for block in fit if one_group and inputs % block == 0]
    return next((block for block in even + fit if block < 2 * inputs), fit[-1] if fit else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixLayout:
    """The layout of one matrix, or of the stacked matrices of all experts."""

    name: str
    kind: Kind
    form: MatrixFormat
    #: The type of full precision and of scales.
    dtype: np.dtype[np.generic]
    rows: int
    inputs: int
    block: int
    experts: int | None = None

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.form.scheme.bits

    @property
    def blocks(self) -> int:
        """Blocks of one row."""
        return -(-self.inputs // self.block)

    @property
    def tensors(self) -> tuple[StoredTensor, ...]:
        """The tensors in the file."""
        if self.form.scheme.full_precision:
            return (self._stored("weight", self.dtype, self.rows, self.inputs),)
        minima = (self.blocks, self.rows) if self.kind == "fast" else (self.rows, self.blocks)
        return (
            self._stored(f"int{self.bits}", np.dtype(np.uint8), self.rows, self.blocks, self.block * self.bits // 8),
            self._stored("scales", self.dtype, self.rows, self.blocks),
            *([self._stored("minima", self.dtype, *minima)] if self.form.minimum else []),
        )

    def codes(self, rows: Codes) -> Array:
        """The bytes of the codes of some rows, [rows, bytes]."""
        width = self.blocks * self.block * self.bits // 8
        stored = rows.codes.view(np.uint8)
        codes = np.full((len(stored), width), ZERO_BYTE[self.kind, self.bits], np.uint8)
        np.bitwise_xor(stored, np.uint8(FLIPPED_BITS[self.kind, self.bits]), out=codes[:, : stored.shape[1]])
        return codes

    def scales(self, rows: Codes) -> Array:
        """The scales of some rows, [rows, blocks]."""
        return self._blockwise(rows.scale).astype(self.dtype)

    def minima(self, rows: Codes) -> list[Array]:
        """The minima of some rows, [rows, blocks], where there are any; those of codes that count from 8."""
        return [] if rows.minimum is None else [self._blockwise(rows.minimum + 8 * rows.scale).astype(self.dtype)]

    def _blockwise(self, values: Array) -> Array:
        group = self.form.group_size or self.inputs
        return values[:, np.minimum(np.arange(self.blocks) * self.block // group, values.shape[1] - 1)]

    def _stored(self, suffix: str, dtype: np.dtype[np.generic], *shape: int) -> StoredTensor:
        front = () if self.experts is None else (self.experts,)
        return StoredTensor(f"{self.name}.{suffix}", dtype, (*front, *shape))
