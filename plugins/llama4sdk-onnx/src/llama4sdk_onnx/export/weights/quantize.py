"""Round matrices to codes with scales, in numpy: to the values of the native engine.

The work is done in blocks that stay in a processor's cache, by several threads: numpy releases Python's lock meanwhile.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from llama4sdk.quantization import MatrixFormat, Quantization
from llama4sdk_onnx.export.weights.weight_file import Array

#: Weights that one thread rounds together.
BLOCK_WEIGHTS: Final = 2**16

THREADS: Final = 2

#: Steps of a group's extreme value that are tried, as in the native engine.
EXTREME_STEPS: Final = (7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0)

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Some rows of a matrix. A value is its code times its scale, plus the minimum; int4 without minima counts from 8.

    ``codes``: int8 [rows, inputs], or uint8 [rows, inputs / 2] with the even input's in the lower half;
    ``scale`` and ``minimum``: float32 [rows, groups].
    """

    codes: Array
    scale: Floats
    minimum: Floats | None = None


def workers() -> ThreadPoolExecutor:
    """The threads that ``quantize`` divides its blocks among."""
    return ThreadPoolExecutor(THREADS, "quantize")


def float32(values: Array) -> Floats:
    """Convert exactly; bfloat16 by its bits, which is several times as fast as by ml_dtypes."""
    if values.dtype == ml_dtypes.bfloat16:
        wide = np.array(values.view(np.uint16), dtype=np.uint32, order="C")
        wide <<= 16
        return wide.view(np.float32)
    return np.ascontiguousarray(values, dtype=np.float32)


def quantize(values: Array, form: MatrixFormat, pool: ThreadPoolExecutor) -> Codes:
    """Round a matrix [rows, inputs]. Raises ValueError when a value is no finite number."""
    rows, inputs = values.shape
    step = max(1, BLOCK_WEIGHTS // inputs)

    def block(start: int) -> tuple[Array, Floats]:
        part = float32(values[start : start + step])
        return _int4(part, form) if form.scheme is Quantization.INT4 else _int8(part)

    codes, scales = zip(*pool.map(block, range(0, rows, step)), strict=True)
    return Codes(codes=np.concatenate(codes), scale=np.concatenate(scales))


def _int8(values: Floats) -> tuple[Array, Floats]:
    """Round to the nearest of 127 steps each way, by the largest value of a row."""
    scale = _require_finite(np.abs(values).max(1, keepdims=True)) / np.float32(127)
    codes = values / np.where(scale == 0, np.float32(1), scale)
    np.rint(codes, out=codes)
    np.clip(codes, -127, 127, out=codes)
    return codes.astype(np.int8), scale


def _int4(values: Floats, form: MatrixFormat) -> tuple[Array, Floats]:
    """Round to codes 0 to 15 around 8, by the scale of several that has the least error, for each group."""
    grouped = _grouped(values, form.group_size)  # [groups of all rows, inputs of a group]
    weights = np.abs(grouped)
    largest = weights.argmax(1, keepdims=True)
    _require_finite(np.take_along_axis(weights, largest, 1))
    extreme = np.take_along_axis(grouped, largest, 1)  # with its sign: it may take the code 0
    work, best = np.empty_like(grouped), np.zeros_like(extreme)
    least = np.full_like(extreme, np.inf)
    for steps in EXTREME_STEPS:
        scale = _as_bfloat16(extreme / np.float32(-steps))
        _rounded(grouped, scale, work)
        np.multiply(work, scale, out=work)
        np.subtract(work, grouped, out=work)
        np.multiply(work, work, out=work)
        np.multiply(work, weights, out=work)
        error = work.sum(1, keepdims=True)
        better = error < least
        np.copyto(least, error, where=better)
        np.copyto(best, scale, where=better)
    _rounded(grouped, best, work)
    codes = (work + np.float32(8)).astype(np.uint8).reshape(len(values), -1)[:, : values.shape[1]]
    return _packed(codes), best.reshape(len(values), -1)


def _rounded(values: Floats, scale: Floats, out: Floats) -> None:
    np.divide(values, np.where(scale == 0, np.float32(1), scale), out=out)
    np.rint(out, out=out)
    np.clip(out, -8, 7, out=out)


def _require_finite(values: Floats) -> Floats:
    """The values; raises ValueError where one is not finite."""
    if not np.isfinite(values).all():  # the largest of several is a NaN where any of them is
        raise ValueError("not finite")
    return values


def _as_bfloat16(values: Floats) -> Floats:
    rounded: Floats = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    return rounded


def _grouped(values: Floats, size: int | None) -> Floats:
    """[rows, inputs] -> [rows * groups, size]; zeros fill up the last group."""
    size = size or values.shape[1]
    missing = -values.shape[1] % size
    padded = np.pad(values, ((0, 0), (0, missing))) if missing else values
    return padded.reshape(-1, size)


def _packed(codes: Bytes) -> Bytes:
    """[rows, inputs], each below 16 -> two in each byte, the even input's in the lower half."""
    if codes.shape[1] % 2:
        codes = np.pad(codes, ((0, 0), (0, 1)))
    packed: Bytes = codes[:, ::2] | codes[:, 1::2] << np.uint8(4)
    return packed
