"""The header of a GGUF file: metadata and where each tensor lies.

The gguf package has a reader, too; it makes several objects per array element, which costs seconds for a vocabulary,
and takes a file that ends early for whole. Here an array is skipped until somebody asks for it, and every length is
checked against the file's end. Formats and quantizations are still the package's.
"""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from pydantic import JsonValue

from llama4sdk.errors import CheckpointError

__all__ = ["Array", "Header", "Tensor", "read_header", "read_parts", "split_files"]

MAGIC: Final = b"GGUF"
#: What llama.cpp calls the files that it splits a large one into.
PART: Final = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")
VERSIONS: Final = (2, 3)
NUMBERS: Final = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
}
MOST_DIMENSIONS: Final = 4
LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """An array that was not read: what it holds, and where it lies in the file."""

    kind: GGUFValueType
    count: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor that was not read. ``shape`` is outermost first, ``start`` counts from the file's beginning."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a GGUF file says of itself; ``data`` is the whole file, mapped into memory."""

    data: mmap.mmap
    metadata: dict[str, JsonValue]
    arrays: dict[str, Array]
    tensors: tuple[Tensor, ...]

    def strings(self, key: str) -> list[str]:
        """An array of strings; empty when the file has none under this key. Raises UnicodeDecodeError."""
        array = self.arrays.get(key)
        if array is None or array.kind is not GGUFValueType.STRING:
            return []
        cursor = _Cursor(self.data, array.start)
        return [cursor.string() for _ in range(array.count)]

    def numbers(self, key: str) -> npt.NDArray[np.generic]:
        """An array of numbers; empty when the file has none under this key."""
        array = self.arrays.get(key)
        if array is None or array.kind not in NUMBERS:
            return np.empty(0)
        return np.frombuffer(self.data, np.dtype(NUMBERS[array.kind]), array.count, array.start)

    def raw(self, tensor: Tensor) -> npt.NDArray[np.uint8]:
        """The stored bytes of a tensor, one row of bytes per innermost row; a view of the file."""
        flat = np.frombuffer(self.data, np.uint8, tensor.nbytes, tensor.start)
        return flat.reshape(*tensor.shape[:-1], -1)


def read_parts(path: Path) -> tuple[Header, ...]:
    """The header of a file, or of all files that one was split into, given any of them. Raises CheckpointError."""
    given = read_header(path)
    count = given.metadata.get("split.count")
    if not isinstance(count, int) or count < 2:
        return (given,)
    named = PART.fullmatch(path.name)
    if named is None or int(named[3]) != count:
        raise CheckpointError(
            f"{path} is one of {count} files that belong together, but its name does not say which.",
            hint=f"Give it the name it was published with, such as model-00001-of-{count:05}.gguf.",
        )
    files = split_files(path)
    for file in files:
        if not file.is_file():
            raise CheckpointError(f"{path} is one of {count} files; {file.name} is missing.", hint="Fetch it, too.")
    return tuple(given if file == path else read_header(file) for file in files)


def split_files(path: Path) -> list[Path]:
    """The files that belong together by the name of one of them; it alone, where its name says nothing of others."""
    if (named := PART.fullmatch(path.name)) is None:
        return [path]
    return [path.with_name(f"{named[1]}-{number:05}-of-{named[3]}.gguf") for number in range(1, int(named[3]) + 1)]


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
    """The file ends before what its header promises."""


class _Cursor:
    """Reads one value after the other."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self._data = data
        self._size = len(data)
        self.at = at

    def take(self, size: int) -> int:
        """Pass over ``size`` bytes; where they begin."""
        start, self.at = self.at, self.at + size
        if self.at > self._size:
            raise _TruncatedError(f"it should have at least {self.at} bytes, but ends after {self._size}")
        return start

    def number(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(form, self._data, self.take(struct.calcsize(form)))[0]
        return value

    def count(self) -> int:
        return int(LENGTH.unpack_from(self._data, self.take(8))[0])

    def string(self) -> str:
        size = self.count()
        start = self.take(size)
        return self._data[start : start + size].decode("utf-8")

    def kind(self) -> GGUFValueType:
        return GGUFValueType(int(self.number("<I")))

    def array(self) -> Array:
        kind, count = self.kind(), self.count()
        start = self.at
        if kind is GGUFValueType.STRING:
            for _ in range(count):
                self.take(self.count())
        elif kind in NUMBERS:
            self.take(count * struct.calcsize(NUMBERS[kind]))
        else:
            raise ValueError(f"an array of {kind.name} is not known")
        return Array(kind=kind, count=count, start=start)


def _parse(data: mmap.mmap) -> Header:
    cursor = _Cursor(data, len(MAGIC))
    version = cursor.number("<I")
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
            metadata[key] = cursor.string() if kind is GGUFValueType.STRING else cursor.number(NUMBERS[kind])
    entries = [_entry(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise ValueError(f"its alignment is {alignment!r}")
    begin = -(-cursor.at // alignment) * alignment
    tensors = tuple(_tensor(entry, begin, len(data)) for entry in entries)
    return Header(data=data, metadata=metadata, arrays=arrays, tensors=tensors)


def _entry(cursor: _Cursor) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
    name = cursor.string()
    dimensions = int(cursor.number("<I"))
    if dimensions > MOST_DIMENSIONS:
        raise ValueError(f"tensor '{name}' has {dimensions} dimensions")
    shape = tuple(cursor.count() for _ in range(dimensions))[::-1]
    return name, shape, GGMLQuantizationType(int(cursor.number("<I"))), cursor.count()


def _tensor(entry: tuple[str, tuple[int, ...], GGMLQuantizationType, int], begin: int, size: int) -> Tensor:
    name, shape, kind, offset = entry
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if not shape or not all(shape) or shape[-1] % block:
        raise ValueError(f"tensor '{name}' of shape {list(shape)} does not divide into blocks of {block}")
    nbytes = int(np.prod(shape, dtype=object)) // block * block_bytes
    if begin + offset + nbytes > size:
        raise _TruncatedError(f"tensor '{name}' ends at byte {begin + offset + nbytes}, the file at {size}")
    return Tensor(name=name, kind=kind, shape=shape, start=begin + offset, nbytes=nbytes)
