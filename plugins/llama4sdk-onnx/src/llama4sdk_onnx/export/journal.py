"""The journal of an export, by which an interrupted one goes on: ``export.journal``, a line of JSON for each file.

The first line identifies the export. The file is locked while a process exports, and removed when all is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal, TypeVar

from pydantic import ValidationError

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError, ExportError
from llama4sdk.exporter import Notice
from llama4sdk.weights.disk import try_lock, unlock
from llama4sdk.weights.exports import JOURNAL, MANIFEST
from llama4sdk_onnx.export.files import PARTIAL, write_error
from llama4sdk_onnx.manifest import FileRecord, is_inside

Line = TypeVar("Line", bound=Value)


class JournalHeader(Value):
    """The first line, which identifies the export."""

    format: Literal["llama4sdk-onnx"] = "llama4sdk-onnx"
    version: Literal[1] = 1
    #: A digest of the checkpoint's files, the options, and the version of this software.
    fingerprint: str
    #: The files of weights that will be written.
    pieces: tuple[str, ...]


class _Line(Value):
    file: str
    record: FileRecord


class Journal:
    """The open journal. ``records`` are those of the files of weights that are whole."""

    def __init__(self, folder: Path, file: IO[bytes], header: JournalHeader, *, notice: Notice) -> None:
        self.folder = folder
        self.records: dict[str, FileRecord] = {}
        self._file = file
        self._resume(header, notice)

    def write(self, name: str, record: FileRecord) -> None:
        """Record that a file is whole. The record is on the disk when this returns. Raises ExportError."""
        self._append(_Line(file=name, record=record))
        self.records[name] = record

    def _resume(self, header: JournalHeader, notice: Notice) -> None:
        """Take over the files of the same export; remove those of another."""
        first, *rest = self._file.read().split(b"\n")
        previous = _parse(JournalHeader, first)
        if previous != header:
            if previous is not None:
                notice("The checkpoint, the options or this software changed since it was begun: it begins anew.")
                for name in filter(is_inside, previous.pieces):
                    (self.folder / name).unlink(missing_ok=True)
                    (self.folder / (name + PARTIAL)).unlink(missing_ok=True)
            self._file.truncate(0)
            self._append(header)
            return
        complete = len(first) + 1
        for line in rest[:-1]:  # a line without a newline was not written whole
            if (entry := _parse(_Line, line)) is None:
                break
            complete += len(line) + 1
            file = self.folder / entry.file
            if file.is_file() and file.stat().st_size == entry.record.size:
                self.records[entry.file] = entry.record
        self._file.truncate(complete)
        for name in header.pieces:
            (self.folder / (name + PARTIAL)).unlink(missing_ok=True)
        if self.records:
            notice(f"Resuming: {len(self.records)} of {len(header.pieces)} files of weights are here already.")

    def _append(self, line: Value) -> None:
        try:
            self._file.write(line.model_dump_json().encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self.folder / JOURNAL, error) from error


@contextmanager
def open_journal(folder: Path, header: JournalHeader, *, notice: Notice) -> Iterator[Journal]:
    """Open the journal of an export to ``folder``, for this process alone; the folder is created.

    The journal is removed when the export is whole, and when it fails before any of its files is. Raises
    ConfigurationError when the directory holds something else, ExportError when it cannot be written or another process
    exports to it.
    """
    _create_directory(folder)
    path = folder / JOURNAL
    try:
        file = path.open("a+b")
    except OSError as error:
        raise write_error(path, error) from error
    removed = True
    with file, _locked(file, folder):
        try:
            if (folder / MANIFEST).is_file():
                raise ExportError(f"Another process has just exported to {folder}.", hint="Give another directory.")
            file.seek(0)
            yield Journal(folder, file, header, notice=notice)
        finally:
            if (folder / MANIFEST).is_file() or path.read_bytes().count(b"\n") <= 1:  # no line behind the header
                try:
                    path.unlink(missing_ok=True)
                except PermissionError:  # as on Windows, while it is open
                    removed = False
    if not removed:
        path.unlink(missing_ok=True)


def _create_directory(folder: Path) -> None:
    """Create the folder, or check that it is empty or has a journal. Raises ConfigurationError and ExportError."""
    try:
        if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
            raise ConfigurationError(f"{folder} is no directory.", hint="Give a new directory, or an empty one.")
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise write_error(folder, error) from error
    if names and JOURNAL not in names:
        raise ConfigurationError(
            f"{folder} holds other files, such as {min(names)}.", hint="Give a new directory, or an empty one."
        )


@contextmanager
def _locked(file: IO[bytes], folder: Path) -> Iterator[None]:
    if not try_lock(file):
        raise ExportError(
            f"Another process is exporting to {folder}.", hint="Wait until it is done, or give another directory."
        )
    try:
        yield
    finally:
        unlock(file)


def _parse(kind: type[Line], line: bytes) -> Line | None:
    try:
        return kind.model_validate_json(line)
    except ValidationError:
        return None
