"""Matrices as plain tensors or as codes with scales; a network's code is the same for both.

A quantized matrix computes exactly what its dequantized values would: they are made when they are needed, one matrix at
a time, and never kept. So a network takes the memory of its codes and one matrix, and the time that making them takes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name everybody knows it by)

from llama4sdk.quantization import MatrixFormat, Quantization

#: Weights that are quantized or dequantized together: few enough to stay in a processor's cache.
PIECE_WEIGHTS: Final = 2**18

CODES: Final = {
    Quantization.INT8: torch.int8,
    Quantization.FP8: torch.float8_e4m3fn,
    Quantization.INT4: torch.uint8,  # two in each: of an even input in the lower half, of an odd one in the upper
}
SCALES: Final = {
    Quantization.FP32: torch.float32,
    Quantization.BF16: torch.bfloat16,
    Quantization.FP16: torch.float16,
}
#: The largest code of each scheme.
MAX_CODE: Final = {Quantization.INT8: 127.0, Quantization.FP8: 448.0}
#: The code of zero in int4 without minima.
INT4_ZERO_POINT: Final = 8

#: Steps that are tried for a group's extreme. Codes end at -8: beyond, one weight is clipped for the others' precision.
INT4_EXTREME_STEPS: Final = (7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """One matrix [out, in], or several of a shape, [..., out, in].

    ``codes``: [..., out, in], or [..., out, in / 2] for int4; ``scale`` and ``minimum``: [..., out, groups].
    A value is its code times its scale, plus the minimum; int4 codes without minima count from 8.
    """

    form: MatrixFormat
    inputs: int
    dtype: torch.dtype  #: Number format of the dequantized values.
    codes: Tensor
    scale: Tensor
    minimum: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory of all parts."""
        return sum(part.nbytes for part in self._parts())

    def __getitem__(self, index: int | slice) -> Quantized:
        """One of several matrices, or some rows of one: a view."""
        return self._with([part[index] for part in self._parts()])

    def pick(self, index: Tensor) -> Quantized:
        """Copies along the first axis: matrices, or rows. ``index``: [count]."""
        as_bytes = (part.view(torch.uint8).index_select(0, index).view(part.dtype) for part in self._parts())
        return self._with(list(as_bytes))

    def dense(self) -> Tensor:
        """The values, [..., out, in]."""
        flat = [part.flatten(0, -2) for part in self._parts()]
        values = self.codes.new_empty((len(flat[0]), self.inputs), dtype=self.dtype)
        step = max(1, PIECE_WEIGHTS // self.inputs)
        for start in range(0, len(values), step):
            rows = slice(start, start + step)
            values[rows] = self._values(*[part[rows] for part in flat])
        return values.view(*self.codes.shape[:-1], self.inputs)

    def _values(self, codes: Tensor, scale: Tensor, minimum: Tensor | None = None) -> Tensor:
        """Dequantized values of some rows, float32."""
        if self.form.scheme is Quantization.INT4:
            numbers = torch.stack((codes & 15, codes >> 4), dim=-1).flatten(-2)[:, : self.inputs].float()
            numbers = numbers if self.form.minimum else numbers - INT4_ZERO_POINT
        else:
            numbers = _e4m3(codes) if self.form.scheme is Quantization.FP8 else codes.float()
        grouped = _grouped(numbers, self.form.group_size)  # [rows, groups, inputs of a group]
        values = grouped * scale.float().unsqueeze(-1)
        if minimum is not None:
            values += minimum.float().unsqueeze(-1)
        return values.flatten(1)[:, : self.inputs]

    def _parts(self) -> list[Tensor]:
        return [self.codes, self.scale, *([] if self.minimum is None else [self.minimum])]

    def _with(self, parts: list[Tensor]) -> Quantized:
        codes, scale, *minimum = parts
        return replace(self, codes=codes, scale=scale, minimum=minimum[0] if minimum else None)


Matrix: TypeAlias = Tensor | Quantized


def linear(x: Tensor, matrix: Matrix) -> Tensor:
    """[..., in] -> [..., out]."""
    return F.linear(x, matrix if isinstance(matrix, Tensor) else matrix.dense())


def lookup(index: Tensor, matrix: Matrix) -> Tensor:
    """The rows of these numbers: [...] -> [..., in]."""
    if isinstance(matrix, Tensor):
        return F.embedding(index, matrix)
    return matrix.pick(index.flatten()).dense().view(*index.shape, -1)


def pick(matrices: Matrix, index: Tensor) -> Matrix:
    """One of several matrices by a number on the device, [1]: the host need not know it."""
    return matrices.index_select(0, index)[0] if isinstance(matrices, Tensor) else matrices.pick(index)[0]


def empty(*shape: int, form: MatrixFormat, dtype: torch.dtype, device: torch.device) -> Matrix:
    """Uninitialized matrices of ``shape``, [..., out, in], in this format."""
    if form.scheme.full_precision:
        return torch.empty(shape, dtype=dtype, device=device)
    *rows, inputs = shape
    groups = -(-inputs // (form.group_size or inputs))
    width = -(-inputs * form.scheme.bits // 8)
    scale = torch.empty((*rows, groups), dtype=SCALES[form.scale], device=device)
    codes = torch.empty((*rows, width), dtype=CODES[form.scheme], device=device)
    minimum = torch.empty_like(scale) if form.minimum else None
    return Quantized(form=form, inputs=inputs, dtype=dtype, codes=codes, scale=scale, minimum=minimum)


def quantize_into(target: Quantized, values: Tensor) -> None:
    """Round ``values`` [out, in] into a matrix of that shape, a few rows at a time."""
    step = max(1, PIECE_WEIGHTS // target.inputs)
    for start in range(0, len(values), step):
        rows = slice(start, start + step)
        block = values[rows].to(target.codes.device, torch.float32)
        if target.form.scheme is Quantization.INT4:
            target.codes[rows], target.scale[rows] = _int4(block, target.form)
        else:
            target.codes[rows], target.scale[rows] = _eight_bits(block, target.form.scheme)


def _eight_bits(values: Tensor, scheme: Quantization) -> tuple[Tensor, Tensor]:
    """The largest of a row becomes the largest code; all else is rounded to the nearest."""
    scale = values.abs().amax(1, keepdim=True) / MAX_CODE[scheme]
    codes = values / torch.where(scale == 0, 1.0, scale)
    codes = codes.round() if scheme is Quantization.INT8 else codes
    return codes.clamp(-MAX_CODE[scheme], MAX_CODE[scheme]).to(CODES[scheme]), scale


def _int4(values: Tensor, form: MatrixFormat) -> tuple[Tensor, Tensor]:
    """Codes 0 to 15 around 8. Of several scales each group takes the one with the least error.

    Squared errors count by the weight's magnitude: plain ones clip too much where groups are large (measured).
    """
    grouped = _grouped(values, form.group_size)  # [rows, groups, inputs of a group]
    weights = grouped.abs()
    extreme = grouped.gather(-1, weights.argmax(-1, keepdim=True))  # with its sign: it may take the code 0
    best_error, best_codes, best_scale = torch.full_like(extreme, torch.inf), grouped, extreme
    for steps in INT4_EXTREME_STEPS:
        scale = (extreme / -steps).to(SCALES[form.scale]).float()  # as it will be kept
        codes = (grouped / torch.where(scale == 0, 1.0, scale)).round_().add_(INT4_ZERO_POINT).clamp_(0, 15)
        error = ((codes - INT4_ZERO_POINT) * scale - grouped).square_().mul_(weights).sum(-1, keepdim=True)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_codes = torch.where(better, codes, best_codes)
        best_scale = torch.where(better, scale, best_scale)
    codes = best_codes.flatten(1)[:, : values.shape[1]].to(torch.uint8)
    return pack(codes), best_scale.squeeze(-1)


def pack(codes: Tensor) -> Tensor:
    """[rows, inputs], each below 16 -> two in each byte, the even input's in the lower half."""
    codes = F.pad(codes, (0, codes.shape[1] % 2))
    return codes[:, ::2] | codes[:, 1::2] << 4


def _e4m3(codes: Tensor) -> Tensor:
    """As float32: the bits of a half-precision number 256 times smaller. Four times as fast as torch's own way."""
    bits = codes.view(torch.uint8).to(torch.int16)
    return ((bits & 0x80) << 8 | (bits & 0x7F) << 7).view(torch.float16).float() * 256


def _grouped(values: Tensor, size: int | None) -> Tensor:
    """[rows, inputs] -> [rows, groups, size]; what the last group lacks is 0."""
    size = size or values.shape[1]
    padded = F.pad(values, (0, -values.shape[1] % size))
    return padded.view(len(values), -1, size)
