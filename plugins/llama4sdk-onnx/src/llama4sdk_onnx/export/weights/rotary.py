"""The tables of cosines and sines that rotate queries and keys, with the angles of the native engine."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx.export.weights.tensor_group import TensorGroup
from llama4sdk_onnx.export.weights.weight_file import Array, StoredTensor

#: The position from which the float32 angles of the published code are too coarse.
PRECISE_FROM: Final = 8192

#: Rows that are computed together.
ROWS_TOGETHER: Final = 2**16

Floats = npt.NDArray[np.float32]


def rotary_group(config: TextConfig, dtype: np.dtype[np.generic]) -> TensorGroup:
    """The tables [positions, dim / 2] for the layers that rotate; no tensors where none does."""
    rows = _table_rows(config)
    names = [(f"rotary.{reach}.{part}", count) for reach, count in rows.items() for part in ("cos", "sin")]

    def values(_: ThreadPoolExecutor) -> Iterator[Array]:
        frequencies = _frequencies(config)
        for count in rows.values():
            for function in (np.cos, np.sin):
                for start in range(0, count, ROWS_TOGETHER):
                    angles = _angles(np.arange(start, min(count, start + ROWS_TOGETHER)), frequencies)
                    yield function(angles).astype(dtype)

    tensors = tuple(StoredTensor(name, dtype, (count, config.head_dim // 2)) for name, count in names)
    return TensorGroup(tensors, values, 0)


def _table_rows(config: TextConfig) -> dict[str, int]:
    """The number of positions of the layers that rotate: ``local`` within their chunk, ``global`` in the context."""
    rotated = frozenset(range(config.num_layers)) - config.nope_layers
    rows = {}
    if rotated & config.chunked_layers and config.chunk_size is not None:
        rows["local"] = min(config.chunk_size, config.max_context)
    if rotated - config.chunked_layers:
        rows["global"] = config.max_context
    return rows


def _angles(positions: npt.NDArray[np.int64], frequencies: Floats) -> npt.NDArray[np.float64]:
    """The angles in radians: [positions] -> [positions, dim / 2]."""
    steps = positions[:, None]
    near = (steps.astype(np.float32) * frequencies).astype(np.float64)
    return np.where(steps < PRECISE_FROM, near, steps * frequencies.astype(np.float64))


def _frequencies(config: TextConfig) -> Floats:
    """Radians per token of each pair, [dim / 2], rounded where the published code rounds."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    powers = np.power(np.full(exponents.shape, config.rope_theta), exponents).astype(np.float32)
    plain: Floats = np.reciprocal(powers)
    if config.rope_scaling is None:
        return plain
    divisors = [config.rope_scaling.divisor(frequency) for frequency in plain.tolist()]
    return np.divide(plain, np.array(divisors, np.float32), dtype=np.float32)
