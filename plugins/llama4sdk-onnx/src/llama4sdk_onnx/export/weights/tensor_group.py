"""Tensors of a file of weights that are made together, such as a matrix's codes and scales."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from llama4sdk_onnx.export.weights.matrix_layout import MatrixLayout
from llama4sdk_onnx.export.weights.matrix_reader import MatrixReader
from llama4sdk_onnx.export.weights.quantize import Codes, workers
from llama4sdk_onnx.export.weights.weight_file import Array, StoredTensor, WeightFile


class TensorGroup(NamedTuple):
    """Some tensors, a function that gives their values in that order, and the bytes of the checkpoint it reads."""

    tensors: tuple[StoredTensor, ...]
    values: Callable[[ThreadPoolExecutor], Iterator[Array]]
    source_bytes: int


def weight_file(name: str, groups: Sequence[TensorGroup]) -> WeightFile:
    """The file of this name, with the tensors of these groups."""

    def values() -> Iterator[Array]:
        with workers() as pool:
            for group in groups:
                yield from group.values(pool)

    return WeightFile(
        path=f"weights/{name}.bin",
        tensors=tuple(tensor for group in groups for tensor in group.tensors),
        values=values,
        source_bytes=sum(group.source_bytes for group in groups),
    )


def matrix_group(
    reader: MatrixReader, layout: MatrixLayout, sources: Sequence[str], *, keep_codes: bool
) -> TensorGroup:
    """Matrices of equal width, joined in this order; ``keep_codes`` takes the checkpoint's own codes."""

    def rows(pool: ThreadPoolExecutor) -> Iterator[Codes]:
        for source in sources:
            if keep_codes:
                yield reader.stored_codes(source)
            else:
                yield from reader.quantized(source, reader.values(source), layout.form, pool)

    def values(pool: ThreadPoolExecutor) -> Iterator[Array]:
        if layout.form.scheme.full_precision:
            for source in sources:
                yield from reader.full_precision(source, reader.values(source), layout.dtype)
        else:
            yield from code_arrays(layout, rows(pool))

    return TensorGroup(layout.tensors, values, reader.source_bytes(sources))


def code_arrays(layout: MatrixLayout, rows: Iterator[Codes]) -> Iterator[Array]:
    """All codes, then all scales, then all minima: scales are few, and are kept in memory until then."""
    scales, minima = list[Array](), list[Array]()
    for codes in rows:
        yield layout.codes(codes)
        scales.append(layout.scales(codes))
        minima += layout.minima(codes)
    yield np.concatenate(scales)
    if minima:
        joined = np.concatenate(minima)
        yield np.ascontiguousarray(joined.T) if layout.kind == "fast" else joined
