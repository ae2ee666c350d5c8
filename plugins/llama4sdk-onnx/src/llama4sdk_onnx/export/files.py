"""Writing files so that one under its final name is whole: under another name first, hashed, and forced to the disk."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import numpy as np

from llama4sdk._text import gb
from llama4sdk.errors import ExportError, Llama4Error
from llama4sdk_onnx.export.weights.pieces import Array, Piece, Stored
from llama4sdk_onnx.manifest import FileRecord

__all__ = ["PARTIAL", "Wrote", "failed_write", "require_space", "write_bytes", "write_piece"]

#: What is put behind the name of a file that is not whole.
PARTIAL: Final = ".partial"
#: Bytes that are hashed and written together.
BLOCK: Final = 2**24
#: Bytes for the graph, the tokenizer and other small files.
MARGIN: Final = 2**26
KEPT: Final = "What is written so far is kept: the same command resumes."

#: Told how many bytes of a file are written.
Wrote = Callable[[int], None]


def require_space(folder: Path, needed: int) -> None:
    """Raise ExportError (with errno ENOSPC) unless there is room for so many bytes of weights, and for small files."""
    free = shutil.disk_usage(folder).free
    if free < needed + MARGIN:
        raise _full(
            f"{folder} has {gb(free)} free, and {gb(needed + MARGIN)} are needed.",
            "Free some space, or give a directory on a larger disk.",
        )


def failed_write(path: Path, error: OSError) -> ExportError:
    """What to raise when ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _full(f"The disk is full: {path} could not be written.", f"Free some space. {KEPT}")
    hint = f"Check the directory, its permissions and the limits on files. {KEPT}"
    return ExportError(f"{path} could not be written: {error.strerror or error}.", hint=hint)


def write_piece(folder: Path, piece: Piece, wrote: Wrote) -> FileRecord:
    """Write a file of weights, every tensor at its place. Raises ExportError, and what reading the weights raises."""
    with _replacing(folder / piece.file) as file:
        sink = _Sink(file, folder / piece.file, wrote)
        values = piece.values()
        for tensor, begin in piece.offsets():
            sink.put(bytes(begin - sink.size))
            for array in _of(tensor, values):
                sink.put(_bytes(array))
        if next(values, None) is not None:
            raise ValueError(f"{piece.file} is given more than it holds")
    return sink.record()


def write_bytes(path: Path, data: bytes) -> FileRecord:
    """Write a small file. Raises ExportError."""
    with _replacing(path) as file:
        sink = _Sink(file, path, lambda size: None)
        sink.put(data)
    return sink.record()


class _Sink:
    """An open file, with what went into it."""

    def __init__(self, file: IO[bytes], path: Path, wrote: Wrote) -> None:
        self.size = 0
        self._file = file
        self._path = path
        self._hash = hashlib.sha256()
        self._wrote = wrote

    def put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), BLOCK):
            block = view[start : start + BLOCK]
            self._write(block)
            self._hash.update(block)
            self.size += len(block)
            self._wrote(self.size)

    def _write(self, block: memoryview) -> None:
        """All of it: the system may take less at once. Raises ExportError."""
        try:
            while len(block):
                block = block[self._file.write(block) :]
        except OSError as error:
            raise failed_write(self._path, error) from error

    def record(self) -> FileRecord:
        return FileRecord(size=self.size, sha256=self._hash.hexdigest())


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file under another name, which gets its own when all went well, and is removed when not."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("wb", buffering=0)
    except OSError as error:
        raise failed_write(path, error) from error
    try:
        with file:
            yield file
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, Llama4Error):
            raise failed_write(path, error) from error
        raise


def _of(tensor: Stored, values: Iterator[Array]) -> Iterator[Array]:
    """The arrays that make up one tensor."""
    left = tensor.nbytes
    while left > 0:
        array = next(values, None)
        if array is None or array.nbytes > left or array.dtype != tensor.dtype:
            raise ValueError(f"{tensor.name} is given {'nothing' if array is None else array.dtype}, {left} bytes left")
        left -= array.nbytes
        yield array


def _bytes(array: Array) -> memoryview:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _full(message: str, hint: str) -> ExportError:
    error = ExportError(message, hint=hint)
    error.errno = errno.ENOSPC
    return error
