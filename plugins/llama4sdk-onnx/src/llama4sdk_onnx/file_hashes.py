"""SHA-256 digests of large files, each read once: a digest is stored for as long as its file is untouched.

A file counts as untouched while its size, its inode and both its times are the same. A change within the clock's step
leaves no trace in the times of a file that was just written, so digests of such files are not stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from llama4sdk import settings
from llama4sdk.errors import CheckpointError

FILE_NAME: Final = "verified-files.json"

#: Bytes that are read together.
BLOCK_BYTES: Final = 2**22

#: Nanoseconds after which a file's times show every further change.
SETTLING_NANOSECONDS: Final = 100_000_000

#: Files whose digests are stored: those that were read last.
MAX_FILES: Final = 4096


class _State(NamedTuple):
    """The state of a file that changes with its content."""

    size: int
    modified: int
    changed: int
    inode: int
    device: int

    @classmethod
    def of(cls, file: Path) -> _State:
        stat = file.stat()
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)


_Entries = dict[str, tuple[_State, str]]
_ENTRIES: Final = TypeAdapter(_Entries)


class StoredDigests:
    """Digests by path, each with the state its file had when it was read."""

    def __init__(self, entries: _Entries) -> None:
        self.entries = entries
        self.changed = False

    def sha256(self, file: Path, progress: Callable[[int], None]) -> str:
        """The digest in hexadecimal; ``progress`` is given the number of bytes done since its last call.

        Raises CheckpointError when the file cannot be read.
        """
        try:
            path, state = str(file.resolve()), _State.of(file)
            stored = self.entries.get(path)
            if stored is not None and stored[0] == state:
                progress(state.size)
                return stored[1]
            digest = _read_digest(file, progress)
            settled = time.time_ns() - max(state.modified, state.changed) > SETTLING_NANOSECONDS
            if settled and state == _State.of(file):
                self.entries.pop(path, None)  # so that it is added at the end
                self.entries[path] = state, digest
                self.changed = True
        except OSError as error:
            raise CheckpointError(f"{file} cannot be read: {error.strerror or error}.") from error
        return digest


@contextlib.contextmanager
def stored_digests() -> Iterator[StoredDigests]:
    """The digests in ``LLAMA4SDK_HOME``, written back at the end; none where that cannot be read or written."""
    home = settings.home()
    try:
        digests = StoredDigests(_ENTRIES.validate_json((home / FILE_NAME).read_bytes()))
    except (OSError, ValidationError):
        digests = StoredDigests({})
    yield digests
    if digests.changed:
        with contextlib.suppress(OSError):
            _write(home, dict(list(digests.entries.items())[-MAX_FILES:]))


def _read_digest(file: Path, progress: Callable[[int], None]) -> str:
    hasher = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            hasher.update(block)
            progress(len(block))
    return hasher.hexdigest()


def _write(home: Path, entries: _Entries) -> None:
    """Replace the file in one step, since other processes may read it."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=home, prefix=FILE_NAME, delete=False) as stream:
        stream.write(_ENTRIES.dump_json(entries))
    try:
        Path(stream.name).replace(home / FILE_NAME)
    except OSError:
        Path(stream.name).unlink(missing_ok=True)
        raise
