"""The tables of cosines and sines that turn queries and keys: the angles of the native engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx.export.weights.pieces import Array, Stored

__all__ = ["rotary_rows", "rotary_tensors", "rotary_values"]

#: Up to here angles are the float32 numbers of the published code; beyond, those would be too coarse.
NEAR: Final = 8192

#: Rows that are made together.
AT_ONCE: Final = 2**16

Floats = npt.NDArray[np.float32]


def rotary_rows(config: TextConfig) -> dict[str, int]:
    """How many positions the layers that rotate can have: ``local`` within their chunk, ``global`` in the context."""
    rotated = frozenset(range(config.num_layers)) - config.nope_layers
    rows = {}
    if rotated & config.chunked_layers and config.chunk_size is not None:
        rows["local"] = min(config.chunk_size, config.max_context)
    if rotated - config.chunked_layers:
        rows["global"] = config.max_context
    return rows


def rotary_tensors(config: TextConfig, dtype: np.dtype[np.generic]) -> tuple[Stored, ...]:
    """The tables [positions, dim / 2] as they are stored."""
    names = [(f"rotary.{reach}.{part}", rows) for reach, rows in rotary_rows(config).items() for part in ("cos", "sin")]
    return tuple(Stored(name, dtype, (rows, config.head_dim // 2)) for name, rows in names)


def rotary_values(config: TextConfig, dtype: np.dtype[np.generic]) -> Iterator[Array]:
    """Their values, in that order."""
    frequencies = _frequencies(config)
    for rows in rotary_rows(config).values():
        for function in (np.cos, np.sin):
            for start in range(0, rows, AT_ONCE):
                angles = _angles(np.arange(start, min(rows, start + AT_ONCE)), frequencies)
                yield function(angles).astype(dtype)


def _angles(positions: npt.NDArray[np.int64], frequencies: Floats) -> npt.NDArray[np.float64]:
    """[positions] -> [positions, dim / 2], radians."""
    steps = positions[:, None]
    near = (steps.astype(np.float32) * frequencies).astype(np.float64)
    return np.where(steps < NEAR, near, steps * frequencies.astype(np.float64))


def _frequencies(config: TextConfig) -> Floats:
    """Radians per token of each pair, [dim / 2], rounded where the published code rounds."""
    exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
    powers = np.power(np.full(exponents.shape, config.rope_theta), exponents).astype(np.float32)
    plain: Floats = np.reciprocal(powers)
    if config.rope_scaling is None:
        return plain
    divisors = [config.rope_scaling.divisor(frequency) for frequency in plain.tolist()]
    return np.divide(plain, np.array(divisors, np.float32), dtype=np.float32)
