"""Read a checkpoint's matrices a few rows at a time, as values or as codes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np

from llama4sdk.errors import CheckpointError
from llama4sdk.quantization import MatrixFormat
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_onnx.export.weights.quantize import Codes, float32, quantize
from llama4sdk_onnx.export.weights.weight_file import Array

#: Weights of a matrix that are converted together.
WEIGHTS_TOGETHER: Final = 2**23


class MatrixReader:
    """Reads one checkpoint. Raises CheckpointError naming the tensor for values that are not finite."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    def source_bytes(self, names: Iterable[str]) -> int:
        """The bytes of these tensors in the checkpoint."""
        return sum(self._checkpoint.tensors[name].nbytes for name in names)

    def values(self, name: str, expert: int | None = None) -> Array:
        """The values as stored, [out, in]. Fused experts are stored [expert, in, out]."""
        values = self._checkpoint.read(name, expert)
        return values if expert is None else values.T

    def full_precision(self, name: str, values: Array, dtype: np.dtype[np.generic]) -> Iterator[Array]:
        """The rows of a matrix, or a vector, in full precision."""
        for rows in _chunks(values):
            with np.errstate(over="ignore"):
                block = float32(rows).astype(dtype, copy=False)
            if not np.isfinite(block).all():
                finite = np.isfinite(float32(rows)).all()
                raise self._too_large(name) if finite else self._not_finite(name)
            yield block

    def quantized(self, name: str, values: Array, form: MatrixFormat, pool: ThreadPoolExecutor) -> Iterator[Codes]:
        """The rows of a matrix, quantized to codes of this form."""
        for rows in _chunks(values):
            try:
                yield quantize(rows, form, pool)
            except ValueError as error:
                raise self._not_finite(name) from error

    def stored_codes(self, name: str) -> Codes:
        """The checkpoint's own codes and scales."""
        stored = self._checkpoint.read_quantized(name)
        if not stored.finite:
            raise self._not_finite(name)
        minimum = None if stored.minimum is None else stored.minimum.astype(np.float32)
        return Codes(codes=stored.codes, scale=stored.scale.astype(np.float32), minimum=minimum)

    def _not_finite(self, name: str) -> CheckpointError:
        return CheckpointError(f"Tensor '{name}' of {self._checkpoint.path} holds values that are no finite number.")

    def _too_large(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"Tensor '{name}' of {self._checkpoint.path} holds values beyond fp16's largest, 65504.",
            hint="Export it with fp32 activations, such as 'int4/fp32' or 'fp32'.",
        )


def _chunks(values: Array) -> Iterator[Array]:
    step = max(1, WEIGHTS_TOGETHER // (values.shape[1] if values.ndim == 2 else 1))
    return (values[start : start + step] for start in range(0, len(values), step))
