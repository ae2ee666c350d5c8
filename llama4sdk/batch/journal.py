"""The file of a batch: a line for each request that was answered or failed, so that a later call goes on from there."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from llama4sdk.errors import BatchFileError, InvalidRequestError, Llama4Error
from llama4sdk.results import Completion
from llama4sdk.weights.disk import try_lock, unlock

__all__ = ["Journal"]

BEGIN: Final = b'{"index": '
"""How every line begins: what is torn and begins otherwise is not ours to cut off."""


class Journal:
    """Append-only. One process at a time; what a torn write left at the end is cut off."""

    def __init__(self, path: Path, keys: Mapping[int, str]) -> None:
        """``keys`` are what the requests are known by.

        Raises InvalidRequestError for a file with answers to other requests, or that is none of a batch, and
        BatchFileError for one that cannot be read or written, or that another process writes.
        """
        self.path = path
        self.answers: dict[int, Completion[Any]] = {}
        """What the file has of these requests."""
        try:
            self._file: IO[bytes] = path.open("a+b", buffering=0)
        except OSError as error:
            raise self.failed(error) from error
        try:
            if not try_lock(self._file):
                raise BatchFileError(
                    f"Another process writes {path}.", hint="Wait until it ends, or choose another path."
                )
            self._end = self._read(keys)
            self._file.truncate(self._end)
        except OSError as error:
            self._file.close()
            raise error if isinstance(error, BatchFileError) else self.failed(error) from error
        except BaseException:
            self._file.close()
            raise

    def write(self, index: int, name: str | None, key: str, outcome: Completion[Any] | Llama4Error) -> None:
        """Add a line. Raises OSError, and leaves no part of it, when that cannot be done."""
        line: dict[str, object] = {"index": index, "id": name, "request": key}
        if isinstance(outcome, Llama4Error):
            line["error"] = {"type": type(outcome).__name__, "message": outcome.message, "hint": outcome.hint}
        else:
            line["completion"] = outcome.model_dump()
        data = memoryview(json.dumps(line, ensure_ascii=False).encode() + b"\n")
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            self._file.truncate(self._end)
            raise
        self._end += len(data)

    def close(self) -> None:
        """See to it that all is on the disk. Raises OSError where that cannot be done."""
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
            unlock(self._file)
        finally:
            self._file.close()

    def failed(self, error: OSError) -> BatchFileError:
        """The error for a file that cannot be written."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raised = BatchFileError(
            f"{self.path} could not be written: {error.strerror or error}.",
            hint="Free some space, then call again: what the file has is not asked again."
            if full
            else "Check the path and its permissions.",
        )
        raised.errno = error.errno
        return raised

    def _read(self, keys: Mapping[int, str]) -> int:
        """Take in the answers there are; where the last whole line ends."""
        self._file.seek(0)
        end = 0
        for number, line in enumerate(_lines(self._file), 1):
            entry = _entry(line)
            if entry is None and not line.endswith(b"\n") and _torn(line):
                return end
            if entry is None:
                raise InvalidRequestError(
                    f"Line {number} of {self.path} is none of a batch.", hint="Choose another path for the answers."
                )
            end += len(line)
            index, key, answer = entry
            if keys.get(index) != key:
                raise InvalidRequestError(
                    f"{self.path} is about other requests: number {index} has changed or is missing.",
                    hint="Choose another path, or take out the lines of requests that changed.",
                )
            if answer is not None:
                self.answers[index] = answer
        return end


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    """Through a buffer of its own, which leaves the file open."""
    with open(os.dup(file.fileno()), "rb") as reader:  # noqa: PTH123 - a descriptor has no path
        yield from reader


def _torn(line: bytes) -> bool:
    return line.startswith(BEGIN) or BEGIN.startswith(line)


def _entry(line: bytes) -> tuple[int, str, Completion[Any] | None] | None:
    """What a line says; ``None`` for one that is not whole."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        answer = entry.get("completion")
        return entry["index"], entry["request"], None if answer is None else Completion.model_validate(answer)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
