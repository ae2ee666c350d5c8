"""Write files so that one under its final name is whole: under another name first, hashed, and forced to the disk."""

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
from llama4sdk_onnx.export.weights.weight_file import Array, StoredTensor, WeightFile
from llama4sdk_onnx.manifest import FileRecord

#: Follows the name of a file that is not whole.
PARTIAL: Final = ".partial"
#: Bytes that are hashed and written together.
BLOCK_BYTES: Final = 2**24
#: Bytes for the graph, the tokenizer and other small files.
SMALL_FILES_BYTES: Final = 2**26
RESUME_HINT: Final = "What is written so far is kept: the same command resumes."

#: Told how many bytes of a file are written.
WriteProgress = Callable[[int], None]


def require_space(folder: Path, needed: int) -> None:
    """Raise ExportError (with errno ENOSPC) unless there is room for so many bytes of weights, and for small files."""
    free = shutil.disk_usage(folder).free
    if free < needed + SMALL_FILES_BYTES:
        raise _disk_full(
            f"{folder} has {gb(free)} free, and {gb(needed + SMALL_FILES_BYTES)} are needed.",
            "Free some space, or give a directory on a larger disk.",
        )


def write_error(path: Path, error: OSError) -> ExportError:
    """The error for a ``path`` that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(f"The disk is full: {path} could not be written.", f"Free some space. {RESUME_HINT}")
    hint = f"Check the directory, its permissions and the limits on files. {RESUME_HINT}"
    return ExportError(f"{path} could not be written: {error.strerror or error}.", hint=hint)


def write_weight_file(folder: Path, weights: WeightFile, progress: WriteProgress) -> FileRecord:
    """Write a file of weights, tensors at their offsets. Raises ExportError, and the errors of reading weights."""
    with _replace_file(folder / weights.path) as file:
        writer = _HashingWriter(file, progress)
        values = weights.values()
        for tensor, begin in weights.offsets():
            writer.write(bytes(begin - writer.size))
            for array in _tensor_arrays(tensor, values):
                writer.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        if next(values, None) is not None:
            raise ValueError(f"{weights.path} is given more than it holds")
    return writer.record()


def write_bytes(path: Path, data: bytes) -> FileRecord:
    """Write a small file. Raises ExportError."""
    with _replace_file(path) as file:
        writer = _HashingWriter(file, lambda size: None)
        writer.write(data)
    return writer.record()


class _HashingWriter:
    """An open file, with the size and the digest of the bytes written so far."""

    def __init__(self, file: IO[bytes], progress: WriteProgress) -> None:
        self.size = 0
        self._file = file
        self._hash = hashlib.sha256()
        self._progress = progress

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), BLOCK_BYTES):
            block = view[start : start + BLOCK_BYTES]
            self._hash.update(block)
            self.size += len(block)
            while len(block):  # the system may take less at once
                block = block[self._file.write(block) :]
            self._progress(self.size)

    def record(self) -> FileRecord:
        return FileRecord(size=self.size, sha256=self._hash.hexdigest())


@contextmanager
def _replace_file(path: Path) -> Iterator[IO[bytes]]:
    """An open file under another name, which gets its own at the end, and is removed after an error."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("wb", buffering=0)
    except OSError as error:
        raise write_error(path, error) from error
    try:
        with file:
            yield file
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and not isinstance(error, Llama4Error):
            raise write_error(path, error) from error
        raise


def _tensor_arrays(tensor: StoredTensor, values: Iterator[Array]) -> Iterator[Array]:
    """The arrays of one tensor. Raises ValueError when they do not make it up."""
    remaining = tensor.nbytes
    while remaining > 0:
        array = next(values, None)
        if array is None or array.nbytes > remaining or array.dtype != tensor.dtype:
            dtype = None if array is None else array.dtype
            raise ValueError(f"{tensor.name} is given {dtype or 'nothing'}, {remaining} bytes left")
        remaining -= array.nbytes
        yield array


def _disk_full(message: str, hint: str) -> ExportError:
    error = ExportError(message, hint=hint)
    error.errno = errno.ENOSPC
    return error
