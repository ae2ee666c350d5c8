"""The SHA-256 of large files, each read once: what was found is remembered as long as the file is untouched.

A file counts as untouched while its size, its inode and both its times are the same. Times of very young files are
not to be trusted, since a change within the clock's step leaves no trace; so these are not remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter, ValidationError

from llama4sdk import settings
from llama4sdk.errors import CheckpointError

__all__ = ["BLOCK", "Hashes", "remembered"]

NAME: Final = "verified-files.json"
BLOCK: Final = 2**22
"""Bytes that are read together."""
SETTLED: Final = 100_000_000
"""Nanoseconds after which a file's times tell of every further change."""
MOST: Final = 4096
"""Files that are remembered, the latest."""

_Marks = tuple[int, int, int, int, int]
_ENTRIES: Final = TypeAdapter(dict[str, tuple[_Marks, str]])


class Hashes:
    """What is known by path: what a file looked like, and its digest then."""

    def __init__(self, entries: dict[str, tuple[_Marks, str]]) -> None:
        self.entries = entries
        self.changed = False

    def digest(self, file: Path, progress: Callable[[int], None]) -> str:
        """The digest in hexadecimal; ``progress`` is told how many bytes more are done.

        Raises CheckpointError when the file cannot be read.
        """
        try:
            path, marks = str(file.resolve()), _marks(file)
            known = self.entries.get(path)
            if known is not None and known[0] == marks:
                progress(marks[0])
                return known[1]
            found = _read(file, progress)
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.") from error
        if time.time_ns() - max(marks[1:3]) > SETTLED and marks == _marks(file):
            self.entries.pop(path, None)  # to the end
            self.entries[path] = marks, found
            self.changed = True
        return found


@contextlib.contextmanager
def remembered() -> Iterator[Hashes]:
    """What is kept beside the weights, and kept anew at the end. A file that cannot be read or written is none."""
    home = settings.home()
    try:
        known = Hashes(_ENTRIES.validate_json((home / NAME).read_bytes()))
    except (OSError, ValidationError):
        known = Hashes({})
    yield known
    if known.changed:
        with contextlib.suppress(OSError):
            _keep(home, dict(list(known.entries.items())[-MOST:]))


def _marks(file: Path) -> _Marks:
    found = file.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def _read(file: Path, progress: Callable[[int], None]) -> str:
    hasher = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            hasher.update(block)
            progress(len(block))
    return hasher.hexdigest()


def _keep(home: Path, entries: dict[str, tuple[_Marks, str]]) -> None:
    home.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=home, prefix=NAME)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(_ENTRIES.dump_json(entries))
        Path(name).replace(home / NAME)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
