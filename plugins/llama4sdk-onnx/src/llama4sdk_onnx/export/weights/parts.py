"""What pieces are made of: some tensors, and how their bytes come to be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from llama4sdk_onnx.export.weights.layouts import Layout
from llama4sdk_onnx.export.weights.pieces import Array, Stored
from llama4sdk_onnx.export.weights.quantizing import Codes
from llama4sdk_onnx.export.weights.reading import Reader

__all__ = ["Part", "coded", "matrix_part", "vector_part"]


class Part(NamedTuple):
    """Tensors of a piece, and their values in that order."""

    tensors: tuple[Stored, ...]
    values: Callable[[ThreadPoolExecutor], Iterator[Array]]
    source_bytes: int


def vector_part(reader: Reader, name: str, source: str, dtype: np.dtype[np.generic]) -> Part:
    """A norm's weights."""
    info = reader.info(source)
    values = lambda _: reader.full(source, reader.values(source), dtype)  # noqa: E731
    return Part((Stored(f"{name}.weight", dtype, info.shape),), values, info.nbytes)


def matrix_part(reader: Reader, layout: Layout, sources: Sequence[str], *, keep_codes: bool) -> Part:
    """Matrices of equal width as one, in this order."""

    def rows(pool: ThreadPoolExecutor) -> Iterator[Codes]:
        for source in sources:
            if keep_codes:
                yield reader.kept(source)
            else:
                yield from reader.rounded(source, reader.values(source), layout.form, pool)

    def values(pool: ThreadPoolExecutor) -> Iterator[Array]:
        if layout.form.scheme.full_precision:
            for source in sources:
                yield from reader.full(source, reader.values(source), layout.dtype)
        else:
            yield from coded(layout, rows(pool))

    return Part(layout.tensors, values, sum(reader.info(source).nbytes for source in sources))


def coded(layout: Layout, rows: Iterator[Codes]) -> Iterator[Array]:
    """All codes, then all scales, then all minima: the scales are few, and wait."""
    scales, minima = list[Array](), list[Array]()
    for part in rows:
        yield layout.codes(part)
        scales.append(layout.scales(part))
        minima += layout.minima(part)
    yield np.concatenate(scales)
    if minima:
        whole = np.concatenate(minima)
        yield np.ascontiguousarray(whole.T) if layout.kind == "fast" else whole
