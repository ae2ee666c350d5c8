"""What is done of an export, so that an interrupted one goes on: ``export.journal``, a line of JSON for each file.

The first line says what is exported and how. The file is locked while somebody exports, and removed when all is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from pydantic import ValidationError

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError, ExportError
from llama4sdk.exporter import Notice
from llama4sdk.weights.disk import try_lock, unlock
from llama4sdk.weights.exports import JOURNAL, MANIFEST
from llama4sdk_onnx.export.files import PARTIAL, failed_write
from llama4sdk_onnx.manifest import FileRecord, is_inside

__all__ = ["Begun", "Journal", "opened_journal"]


class Begun(Value):
    """The first line: what this export is."""

    format: Literal["llama4sdk-onnx"] = "llama4sdk-onnx"
    version: Literal[1] = 1
    #: Of the checkpoint's files, the options, and the version of this software.
    fingerprint: str
    #: The files of weights that will be written.
    pieces: tuple[str, ...]


class _Line(Value):
    file: str
    record: FileRecord


class Journal:
    """The open file. ``done`` are the pieces that are whole, as they were written."""

    def __init__(self, folder: Path, file: IO[bytes], begun: Begun, *, notice: Notice) -> None:
        self.folder = folder
        self.done: dict[str, FileRecord] = {}
        self._file = file
        self._resume(begun, notice)

    def write(self, name: str, record: FileRecord) -> None:
        """Note that a file is whole. It is on the disk when this returns. Raises ExportError."""
        self._append(_Line(file=name, record=record))
        self.done[name] = record

    def _resume(self, begun: Begun, notice: Notice) -> None:
        """Take over what was done of the same export; of another one, remove it."""
        first, *rest = self._file.read().split(b"\n")
        before = _begun(first)
        if before != begun:
            if before is not None:
                notice("The checkpoint, the options or this software changed since it was begun: it begins anew.")
                self._remove(before.pieces)
            self._file.truncate(0)
            self._append(begun)
            return
        whole = len(first) + 1
        for line in rest[:-1]:  # what no newline ends was not written whole
            if (entry := _entry(line)) is None:
                break
            whole += len(line) + 1
            self._take(entry)
        self._file.truncate(whole)
        for name in begun.pieces:
            (self.folder / (name + PARTIAL)).unlink(missing_ok=True)
        if self.done:
            notice(f"Resuming: {len(self.done)} of {len(begun.pieces)} files of weights are here already.")

    def _take(self, entry: _Line) -> None:
        file = self.folder / entry.file
        if file.is_file() and file.stat().st_size == entry.record.size:
            self.done[entry.file] = entry.record

    def _remove(self, names: Sequence[str]) -> None:
        for name in filter(is_inside, names):
            (self.folder / name).unlink(missing_ok=True)
            (self.folder / (name + PARTIAL)).unlink(missing_ok=True)

    def _append(self, line: Value) -> None:
        try:
            self._file.write(line.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise failed_write(self.folder / JOURNAL, error) from error


@contextmanager
def opened_journal(folder: Path, begun: Begun, *, notice: Notice) -> Iterator[Journal]:
    """The journal of an export to ``folder``, which is made, for this process alone.

    It is removed when the export is whole, and when it fails before any of its files is. Raises ConfigurationError when
    the directory holds something else, ExportError when it cannot be written or another process exports to it.
    """
    _make(folder)
    path = folder / JOURNAL
    try:
        file = path.open("a+b")
    except OSError as error:
        raise failed_write(path, error) from error
    gone = True
    with file, _alone(file, folder):
        try:
            if (folder / MANIFEST).is_file():
                raise ExportError(f"Another process has just exported to {folder}.", hint="Give another directory.")
            file.seek(0)
            journal = Journal(folder, file, begun, notice=notice)
            yield journal
        finally:
            if (folder / MANIFEST).is_file() or not _lines(path):
                gone = _removed(path)
    if not gone:
        path.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    """Raises what ``opened_journal`` does."""
    try:
        if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
            raise ConfigurationError(f"{folder} is no directory.", hint="Give a new directory, or an empty one.")
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise failed_write(folder, error) from error
    if names and JOURNAL not in names:
        raise ConfigurationError(
            f"{folder} holds other files, such as {min(names)}.", hint="Give a new directory, or an empty one."
        )


@contextmanager
def _alone(file: IO[bytes], folder: Path) -> Iterator[None]:
    if not try_lock(file):
        raise ExportError(
            f"Another process is exporting to {folder}.", hint="Wait until it is done, or give another directory."
        )
    try:
        yield
    finally:
        unlock(file)


def _removed(path: Path) -> bool:
    """Whether it could be removed although it is open: not on Windows."""
    try:
        path.unlink(missing_ok=True)
    except PermissionError:
        return False
    return True


def _lines(path: Path) -> int:
    """How many files it says are whole."""
    return max(0, path.read_bytes().count(b"\n") - 1)


def _begun(line: bytes) -> Begun | None:
    try:
        return Begun.model_validate_json(line)
    except ValidationError:
        return None


def _entry(line: bytes) -> _Line | None:
    try:
        return _Line.model_validate_json(line)
    except ValidationError:
        return None
