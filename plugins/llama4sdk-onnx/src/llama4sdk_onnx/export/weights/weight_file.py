"""A file of an export's weights, such as a layer's: the unit that is written, resumed and hashed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

#: Every tensor begins at a multiple of so many bytes, so that a file can be mapped.
ALIGNMENT: Final = 4096

Array = npt.NDArray[np.generic]


class StoredTensor(NamedTuple):
    """One initializer of a graph, as it is stored in a file."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """One file. All sizes are known before any weight is read."""

    #: Its path from the export directory, with ``/``.
    path: str
    tensors: tuple[StoredTensor, ...]
    #: Reads the checkpoint and gives the bytes of ``tensors`` in their order, a little at a time: of each tensor one or
    #: more arrays that follow each other, and never two tensors in one.
    values: Callable[[], Iterator[Array]]
    #: Bytes read of the checkpoint for it, which progress counts.
    source_bytes: int

    def offsets(self) -> Iterator[tuple[StoredTensor, int]]:
        """The tensors, each with the byte at which it begins."""
        end = 0
        for tensor in self.tensors:
            yield tensor, end
            end += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        *_, (last, begin) = self.offsets()
        return begin + last.nbytes
