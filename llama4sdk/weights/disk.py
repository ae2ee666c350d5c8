"""What a disk may refuse, said plainly; and one process at a time at a file."""

from __future__ import annotations

import errno
import mmap
import shutil
import sys
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

from llama4sdk.errors import DownloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["failed_write", "locked", "release", "require_space", "try_lock", "unlock"]

POLL_SECONDS: Final = 0.1


def require_space(directory: Path, needed: int) -> None:
    """Raise DownloadError (with errno ENOSPC) unless ``needed`` bytes are free where ``directory`` is."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise _disk_full(f"{directory} has {free / 1e6:.0f} MB free and {needed / 1e6:.0f} MB are needed.")


def failed_write(path: Path, error: OSError) -> DownloadError:
    """What to raise when ``path`` could not be written."""
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
def locked(target: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock that guards ``target``, whose directory is made; ``waiting`` is called while another holds it.

    The system drops the lock of a process that dies. The lock is a file beside the target that stays: removing it
    would let two processes hold "the" lock. Raises DownloadError when the directory cannot be written.
    """
    path = target.with_name(target.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("ab")
    except OSError as error:
        raise failed_write(path, error) from error
    with opened as file:
        while not try_lock(file):  # polled, not blocking: Ctrl-C must work, and the waiter can show progress
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
        """Take the lock of an open file, if nobody has it."""
        try:
            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def unlock(file: IO[bytes]) -> None:
        """Give it back."""
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def try_lock(file: IO[bytes]) -> bool:
        """Take the lock of an open file, if nobody has it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(file: IO[bytes]) -> None:
        """Give it back."""
        fcntl.flock(file, fcntl.LOCK_UN)


def release(data: mmap.mmap) -> None:
    """Give the memory back that reading has filled, where the system can be told; what is read again comes back."""
    if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which trims by itself
        data.madvise(mmap.MADV_DONTNEED)
