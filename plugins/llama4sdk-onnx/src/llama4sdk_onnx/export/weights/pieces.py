"""The weights of a graph in pieces, each a file of its own: what is written, skipped when it is there, and hashed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["ALIGNMENT", "Piece", "Stored"]

#: Bytes; every tensor begins at a multiple, so that a file can be mapped.
ALIGNMENT: Final = 4096

Array = npt.NDArray[np.generic]


class Stored(NamedTuple):
    """One initializer of a graph, as it lies in a file."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One file of weights, such as a layer's. All sizes are known before any weight is read."""

    #: Its path from the export directory, with ``/``.
    file: str
    tensors: tuple[Stored, ...]
    #: Reads the checkpoint and gives the bytes of ``tensors`` in their order, a little at a time: of each tensor one or
    #: more arrays that follow each other, and never two tensors in one.
    values: Callable[[], Iterator[Array]]
    #: What is read of the checkpoint for it: what progress counts.
    source_bytes: int

    def offsets(self) -> Iterator[tuple[Stored, int]]:
        """Where each tensor begins in the file."""
        end = 0
        for tensor in self.tensors:
            yield tensor, end
            end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        *_, (last, begin) = self.offsets()
        return begin + last.nbytes
