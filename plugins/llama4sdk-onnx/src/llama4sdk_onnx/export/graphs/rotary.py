"""The tables of cosines and sines that rotate queries and keys, with the angles of the native engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx.export.weights.weight_file import Array, StoredTensor

#: The position from which the float32 angles of the published code are too coarse.
PRECISE_FROM: Final = 8192

#: Rows that are computed together.
ROWS_TOGETHER: Final = 2**16

Floats = npt.NDArray[np.float32]


def rotary_rows(config: TextConfig) -> dict[str, int]:
    """The number of positions of the layers that rotate: ``local`` within their chunk, ``global`` in the context."""
    rotated = frozenset(range(config.num_layers)) - config.nope_layers
    rows = {}
    if rotated & config.chunked_layers and config.chunk_size is not None:
        rows["local"] = min(config.chunk_size, config.max_context)
    if rotated - config.chunked_layers:
        rows["global"] = config.max_context
    return rows


def rotary_tensors(config: TextConfig, dtype: np.dtype[np.generic]) -> tuple[StoredTensor, ...]:
    """The tables [positions, dim / 2] as they are stored."""
    names = [(f"rotary.{reach}.{part}", rows) for reach, rows in rotary_rows(config).items() for part in ("cos", "sin")]
    return tuple(StoredTensor(name, dtype, (rows, config.head_dim // 2)) for name, rows in names)


def rotary_values(config: TextConfig, dtype: np.dtype[np.generic]) -> Iterator[Array]:
    """The values of the tables, in the order of ``rotary_tensors``."""
    frequencies = _frequencies(config)
    for rows in rotary_rows(config).values():
        for function in (np.cos, np.sin):
            for start in range(0, rows, ROWS_TOGETHER):
                angles = _angles(np.arange(start, min(rows, start + ROWS_TOGETHER)), frequencies)
                yield function(angles).astype(dtype)


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
