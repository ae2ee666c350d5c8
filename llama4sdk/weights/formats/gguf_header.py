"""The header of a GGUF file: metadata and the position of each tensor.

The gguf package has a reader as well; it makes several objects per array element, which takes seconds for a vocabulary,
and accepts truncated files. Here arrays are read on demand, and every length is checked against the file's end.
Formats and quantizations are the package's.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.gguf_reader import GGUFReader
from pydantic import JsonValue

from llama4sdk.errors import CheckpointError

MAGIC: Final = b"GGUF"
#: llama.cpp's names for the parts of a split file.
PART_NAME: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
VERSIONS: Final = (2, 3)
NUMBER_TYPES: Final[Mapping[GGUFValueType, type[np.generic]]] = GGUFReader.gguf_scalar_to_np
MAX_DIMENSIONS: Final = 4
LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array that has not been read: type and number of its elements, and its start in the file."""

    kind: GGUFValueType
    count: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor that has not been read. ``shape`` is outermost first; ``start`` is its position in the file."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The header of a GGUF file; ``data`` is the whole file, memory-mapped."""

    data: mmap.mmap
    metadata: dict[str, JsonValue]
    arrays: dict[str, Array]
    tensors: tuple[Tensor, ...]

    def strings(self, key: str) -> list[str]:
        """Read an array of strings; empty without one under this key. Raises UnicodeDecodeError."""
        array = self.arrays.get(key)
        if array is None or array.kind is not GGUFValueType.STRING:
            return []
        cursor = _Cursor(self.data, array.start)
        return [cursor.string() for _ in range(array.count)]

    def numbers(self, key: str) -> npt.NDArray[np.generic]:
        """Read an array of numbers; empty without one under this key."""
        array = self.arrays.get(key)
        if array is None or array.kind not in NUMBER_TYPES:
            return np.empty(0)
        return np.frombuffer(self.data, NUMBER_TYPES[array.kind], array.count, array.start)

    def raw(self, tensor: Tensor) -> npt.NDArray[np.uint8]:
        """The stored bytes of a tensor, [..., bytes of an innermost row]; a view of the file."""
        flat = np.frombuffer(self.data, np.uint8, tensor.nbytes, tensor.start)
        return flat.reshape(*tensor.shape[:-1], -1)


def read_parts(path: Path) -> tuple[Header, ...]:
    """Read the header of a file, or of all parts of a split file, given any of them. Raises CheckpointError."""
    header = read_header(path)
    count = header.metadata.get("split.count")
    if not isinstance(count, int) or count < 2:
        return (header,)
    match = PART_NAME.fullmatch(path.name)
    if match is None or int(match[3]) != count:
        raise CheckpointError(
            f"{path} is one of {count} files that belong together, but its name does not say which.",
            hint=f"Give it the name it was published with, such as model-00001-of-{count:05}.gguf.",
        )
    files = split_files(path)
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{path} is one of {count} files; {file.name} is missing.", hint="Fetch it, too.")
    return tuple(header if file == path else read_header(file) for file in files)


def split_files(path: Path) -> list[Path]:
    """The parts of a split file by the name of one of them; the file alone if its name is not one of a part."""
    if (match := PART_NAME.fullmatch(path.name)) is None:
        return [path]
    return [path.with_name(f"{match[1]}-{number:05}-of-{match[3]}.gguf") for number in range(1, int(match[3]) + 1)]


def read_header(path: Path) -> Header:
    """Read a GGUF file's header. Raises CheckpointError when it is no GGUF file, damaged or truncated."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise CheckpointError(f"{path} is not a GGUF file.", hint="Give a .gguf file or a directory.")
            return _parse(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except _TruncatedError as error:
        raise CheckpointError(f"{path} is truncated: {error}.", hint="Fetch the file again.") from error
    except (ValueError, OverflowError, KeyError) as error:
        raise CheckpointError(f"{path} is a damaged GGUF file: {error}.", hint="Fetch the file again.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error


class _TruncatedError(Exception):
    """The file is shorter than its header states."""


class _Cursor:
    """Reads value after value from a position ``at``."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data = data
        self._size = len(data)
        self.at = at

    def skip(self, size: int) -> int:
        """Advance by ``size`` bytes and return their start."""
        start, self.at = self.at, self.at + size
        if self.at > self._size:
            raise _TruncatedError(f"it should have at least {self.at} bytes, but ends after {self._size}")
        return start

    def number(self, kind: GGUFValueType = GGUFValueType.UINT32) -> int | float | bool:
        dtype = np.dtype(NUMBER_TYPES[kind])
        value: int | float | bool = np.frombuffer(self._data, dtype, 1, self.skip(dtype.itemsize)).item()
        return value

    def count(self) -> int:
        return int(LENGTH.unpack_from(self._data, self.skip(8))[0])

    def string(self) -> str:
        size = self.count()
        start = self.skip(size)
        return self._data[start : start + size].decode("utf-8")

    def kind(self) -> GGUFValueType:
        return GGUFValueType(int(self.number()))

    def array(self) -> Array:
        kind, count = self.kind(), self.count()
        start = self.at
        if kind is GGUFValueType.STRING:
            for _ in range(count):
                self.skip(self.count())
        elif kind in NUMBER_TYPES:
            self.skip(count * np.dtype(NUMBER_TYPES[kind]).itemsize)
        else:
            raise ValueError(f"an array of {kind.name} is not known")
        return Array(kind=kind, count=count, start=start)


def _parse(data: mmap.mmap) -> Header:
    cursor = _Cursor(data, len(MAGIC))
    version = cursor.number()
    if version not in VERSIONS:
        raise ValueError(f"it is of version {version}; {' and '.join(map(str, VERSIONS))} are known")
    tensor_count, field_count = cursor.count(), cursor.count()
    metadata: dict[str, JsonValue] = {}
    arrays: dict[str, Array] = {}
    for _ in range(field_count):
        key, kind = cursor.string(), cursor.kind()
        if kind is GGUFValueType.ARRAY:
            arrays[key] = cursor.array()
        else:
            metadata[key] = cursor.string() if kind is GGUFValueType.STRING else cursor.number(kind)
    entries = [_entry(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"its alignment is {alignment!r}")
    data_start = -(-cursor.at // alignment) * alignment
    tensors = tuple(_tensor(entry, data_start, len(data)) for entry in entries)
    return Header(data=data, metadata=metadata, arrays=arrays, tensors=tensors)


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = cursor.string()
    dimensions = int(cursor.number())
    if dimensions > MAX_DIMENSIONS:
        raise ValueError(f"tensor '{name}' has {dimensions} dimensions")
    shape = tuple(cursor.count() for _ in range(dimensions))[::-1]
    return name, shape, GGMLQuantizationType(int(cursor.number())), cursor.count()


def _tensor(entry: tuple[str, tuple[int, ...], GGMLQuantizationType, int], data_start: int, file_size: int) -> Tensor:
    name, shape, kind, offset = entry
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if not shape or not all(shape) or shape[-1] % block:
        raise ValueError(f"tensor '{name}' of shape {list(shape)} does not divide into blocks of {block}")
    nbytes = int(np.prod(shape, dtype=object)) // block * block_bytes
    end = data_start + offset + nbytes
    if end > file_size:
        raise _TruncatedError(f"tensor '{name}' ends at byte {end}, the file at {file_size}")
    return Tensor(name=name, kind=kind, shape=shape, start=data_start + offset, nbytes=nbytes)
