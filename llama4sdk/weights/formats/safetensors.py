"""Safetensors files: the length of a JSON header, the header, then the tensors it points to.

The safetensors package cannot give numpy an 8-bit float and copies tensors. Here a tensor is a view of the mapped
file, and every length is checked against the file's end first.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import ml_dtypes
import numpy as np
import numpy.typing as npt
from pydantic import Field, JsonValue, TypeAdapter

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.checkpoint import TensorInfo
from llama4sdk.weights.disk import release_memory

DTYPES: Final[Mapping[str, np.dtype[np.generic]]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
HEADER_LENGTH: Final = struct.Struct("<Q")

_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: str
    shape: list[_Count]
    data_offsets: tuple[_Count, _Count]


_OBJECT: Final = TypeAdapter(dict[str, JsonValue])
_ENTRIES: Final = TypeAdapter(dict[str, _Entry])


class SafetensorsFile:
    """A memory-mapped file. Raises CheckpointError when it is damaged, truncated or cannot be read."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._data_start, self._entries = _header(self._data)
            self.tensors: Mapping[str, TensorInfo] = {name: _info(entry) for name, entry in self._entries.items()}
        except (ValueError, struct.error) as error:  # pydantic's and UnicodeDecodeError are ValueErrors
            raise CheckpointError(f"{path} is damaged or truncated: {error}.", hint="Fetch the file again.") from error
        except OSError as error:
            raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error

    def read(self, name: str) -> npt.NDArray[np.generic]:
        """The stored values of a tensor: a read-only view of the file."""
        entry = self._entries[name]
        start, end = (self._data_start + offset for offset in entry.data_offsets)
        return np.frombuffer(memoryview(self._data)[start:end], DTYPES[entry.dtype]).reshape(entry.shape)

    def release(self) -> None:
        """Release the memory of pages that were read."""
        release_memory(self._data)


def _header(data: mmap.mmap) -> tuple[int, dict[str, _Entry]]:
    """The byte where the tensors begin, and the header's entry for each tensor."""
    (size,) = HEADER_LENGTH.unpack_from(data)
    data_start = HEADER_LENGTH.size + size
    if data_start > len(data):
        raise ValueError(f"its header should end at byte {data_start}, but the file ends at {len(data)}")
    objects = _OBJECT.validate_json(data[HEADER_LENGTH.size : data_start])
    objects.pop("__metadata__", None)
    entries = _ENTRIES.validate_python(objects)
    end = data_start + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if end != len(data):
        raise ValueError(f"its tensors should end at byte {end}, but the file ends at {len(data)}")
    return data_start, entries


def _info(entry: _Entry) -> TensorInfo:
    start, end = entry.data_offsets
    dtype = DTYPES.get(entry.dtype)
    if dtype is None:
        raise ValueError(f"a tensor is stored as {entry.dtype}, which is not known")
    if end - start != math.prod(entry.shape) * dtype.itemsize:
        raise ValueError(f"a tensor of shape {entry.shape} in {entry.dtype} takes {end - start} bytes")
    return TensorInfo(tuple(entry.shape), entry.dtype, end - start)
