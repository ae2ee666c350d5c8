"""The file of a batch: a line for each finished request, from which a later call continues."""

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

#: Every line starts so; an incomplete last line that starts otherwise is not ours, and is not cut off.
LINE_START: Final = b'{"index": '


class Journal:
    """An append-only file for one process at a time. An incomplete last line, left by a crash, is cut off."""

    def __init__(self, path: Path, keys: Mapping[int, str]) -> None:
        """``keys`` are the hashes of the requests, by index; ``answers`` are those that the file has.

        Raises InvalidRequestError for a file of other requests or of another kind, BatchFileError for one that cannot
        be read or written, or that another process writes.
        """
        self.path = path
        self.answers: dict[int, Completion[Any]] = {}
        try:
            self._file: IO[bytes] = path.open("a+b", buffering=0)
        except OSError as error:
            raise self.file_error(error) from error
        try:
            if not try_lock(self._file):
                raise BatchFileError(
                    f"Another process writes {path}.", hint="Wait until it ends, or choose another path."
                )
            self._end = self._read(keys)
            self._file.truncate(self._end)
        except OSError as error:
            self._file.close()
            raise error if isinstance(error, BatchFileError) else self.file_error(error) from error
        except BaseException:
            self._file.close()
            raise

    def write(self, index: int, name: str | None, key: str, outcome: Completion[Any] | Llama4Error) -> None:
        """Append a line, whole or not at all. Raises OSError."""
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
        """Flush to the disk and close. Raises OSError."""
        if self._file.closed:
            return
        try:
            os.fsync(self._file.fileno())
            unlock(self._file)
        finally:
            self._file.close()

    def file_error(self, error: OSError) -> BatchFileError:
        """The error for a file that cannot be read or written."""
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
        """Read the answers; return the offset after the last complete line."""
        self._file.seek(0)
        end = 0
        for number, line in enumerate(_lines(self._file), 1):
            entry = _entry(line)
            is_ours = line.startswith(LINE_START) or LINE_START.startswith(line)
            if entry is None and not line.endswith(b"\n") and is_ours:
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
    """Read lines through a separate buffer, which leaves the file open."""
    with open(os.dup(file.fileno()), "rb") as reader:  # noqa: PTH123 - a descriptor has no path
        yield from reader


def _entry(line: bytes) -> tuple[int, str, Completion[Any] | None] | None:
    """Parse a line as index, hash and answer; ``None`` for an incomplete or foreign one."""
    if not line.endswith(b"\n"):
        return None
    try:
        entry = json.loads(line)
        answer = entry.get("completion")
        return entry["index"], entry["request"], None if answer is None else Completion.model_validate(answer)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
