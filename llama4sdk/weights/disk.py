"""Errors of a full or read-only disk, file locks between processes, and releasing mapped memory."""

from __future__ import annotations

import errno
import mmap
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from llama4sdk.errors import DownloadError

POLL_SECONDS: Final = 0.1


def require_space(directory: Path, needed: int) -> None:
    """Raise DownloadError (with errno ENOSPC) unless ``needed`` bytes are free where ``directory`` is."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise _disk_full(f"{directory} has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB are needed.")


def failed_write(path: Path, error: OSError) -> DownloadError:
    """The error to raise when ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _disk_full(f"The disk is full: {path} could not be written.")
    hint = "Check the directory's permissions, or set LLAMA4SDK_HOME to another directory."
    return DownloadError(f"{path} could not be written: {error.strerror or error}.", hint=hint)


def _disk_full(message: str) -> DownloadError:
    hint = "Free some space, or set LLAMA4SDK_HOME to a directory on a larger disk."
    error = DownloadError(message, hint=hint)
    error.errno = errno.ENOSPC
    return error


@contextmanager
def lock(target: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Lock ``target`` against other processes and make its directory; ``waiting`` is called until the lock is free.

    The system releases the lock of a process that dies. The lock file beside the target is not removed: otherwise two
    processes could lock different files of that name. Raises DownloadError when the directory cannot be written.
    """
    path = target.with_name(target.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = path.open("ab")
    except OSError as error:
        raise failed_write(path, error) from error
    with lock_file as file:
        while not try_lock(file):  # polled: so Ctrl-C works, and progress can be shown
            if waiting:
                waiting()
            time.sleep(POLL_SECONDS)
        try:
            yield
        finally:
            unlock(file)


if sys.platform == "win32":
    import msvcrt

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file; False if another process has locked it."""
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(file: IO[bytes]) -> None:
        """Unlock an open file."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool:
        """Lock an open file; False if another process has locked it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(file: IO[bytes]) -> None:
        """Unlock an open file."""
        fcntl.flock(file, fcntl.LOCK_UN)


def release_memory(data: mmap.mmap) -> None:
    """Drop the pages of a mapped file from memory where the system allows; they are read again when needed."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which trims by itself
        data.madvise(mmap.MADV_DONTNEED)
