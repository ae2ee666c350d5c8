"""One file over HTTP, whole or not at all: resumed after any interruption, verified before it takes its name.

What has arrived lies beside the target as ``<name>.part``, and what the server said about its version (ETag or date) as
``<name>.part.version``. A target that exists is whole: it appears only by an atomic rename after its SHA-256 was right.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from llama4sdk.errors import DownloadError
from llama4sdk.weights.disk import failed_write, locked, require_space

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

    from llama4sdk.progress import Progress

__all__ = ["arrived", "download", "get", "sha256_of"]

DELAYS: Final = (0.5, 1.0, 2.0)
PROGRESS_THAT_COUNTS: Final = 1 << 20
"""A connection that brought this many new bytes before it dropped earns the full number of retries again."""


def download(
    url: str, target: Path, *, sha256: str, progress: Progress | None = None, delays: Sequence[float] = DELAYS
) -> Path:
    """Make ``target`` the file at ``url`` and return it; at once when it exists.

    Waits while another process fetches the same target. ``delays`` are the seconds before each retry of a dropped
    connection. Raises DownloadError; what has arrived is kept for the next call unless it is known to be wrong.
    """
    part = _Part(target)
    with locked(target, waiting=lambda: progress(part.size, None) if progress else None):
        if target.is_file():
            return target
        resumed = part.size > 0
        _fetch(url, part, progress, delays)
        if sha256_of(part.path) != sha256 and resumed:
            # The kept beginning may have been of another version; a server that sends no ETag cannot tell us.
            part.discard()
            _fetch(url, part, progress, delays)
        _accept(url, part, target, sha256)
    return target


def arrived(target: Path) -> int:
    """Bytes that are here of a file that is being fetched."""
    return _Part(target).size


def sha256_of(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def get(url: str, *, accept: str) -> httpx.Response:
    """A small document, read whole. Raises DownloadError when there is none."""
    import httpx

    try:
        response = httpx.get(url, headers={"Accept": accept}, follow_redirects=True, timeout=_timeout())
        _check_status(url, response)
    except (httpx.TransportError, httpx.InvalidURL, httpx.TooManyRedirects, _Unsteady) as error:
        raise _unreachable(url, error) from error
    return response


class _Part:
    """What has arrived of a file, and which version of it that is."""

    def __init__(self, target: Path) -> None:
        self.path = target.with_name(target.name + ".part")
        self._version = target.with_name(target.name + ".part.version")

    @property
    def size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    @property
    def version(self) -> str | None:
        return self._version.read_text(encoding="utf-8") if self._version.is_file() else None

    @version.setter
    def version(self, value: str | None) -> None:
        self._version.write_text(value or "", encoding="utf-8")

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._version.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Body:
    """What the server is about to send: from ``start`` on, of ``total`` bytes."""

    start: int
    total: int | None


def _fetch(url: str, part: _Part, progress: Progress | None, delays: Sequence[float]) -> None:
    """Bring the part to its full length, over as many connections as it takes."""
    import httpx

    reached, failures = part.size, 0
    while True:
        try:
            return _transfer(url, part, progress)
        except (httpx.TransportError, _Unsteady) as error:
            if isinstance(error, httpx.UnsupportedProtocol) or failures >= len(delays):
                raise _unreachable(url, error) from error
            time.sleep(delays[failures])
            failures += 1
        except (httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise _unreachable(url, error) from error
        if part.size >= reached + PROGRESS_THAT_COUNTS:
            reached, failures = part.size, 0


class _Unsteady(Exception):  # noqa: N818  (never leaves this module)
    """An answer that the next try may better."""


def _transfer(url: str, part: _Part, progress: Progress | None) -> None:
    """One request, appended to the part."""
    import httpx

    headers = {"Accept-Encoding": "identity"}  # a range counts the bytes on the wire
    if offset := part.size:
        headers |= {"Range": f"bytes={offset}-"} | ({"If-Range": part.version} if part.version else {})
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=_timeout()) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return _beyond_the_end(part, response)
        _check_status(url, response)
        try:
            _write(part, response, _body(response, offset), progress)
        except DownloadError:
            raise
        except OSError as error:
            raise failed_write(part.path, error) from error


def _beyond_the_end(part: _Part, response: httpx.Response) -> None:
    """Nothing is left to send: the part is whole, or longer than the file ever was."""
    if response.headers.get("Content-Range", "") != f"bytes */{part.size}":
        part.discard()
        raise _Unsteady("the server could not resume the download")


def _body(response: httpx.Response, offset: int) -> _Body:
    if response.status_code == 206:
        start, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        if start.partition("-")[0] != str(offset):
            raise _Unsteady(f"the server sent another range than the one asked for: {start!r}")
        return _Body(offset, int(total) if total.isdecimal() else None)
    length = response.headers.get("Content-Length", "")
    return _Body(0, int(length) if length.isdecimal() else None)


def _write(part: _Part, response: httpx.Response, body: _Body, progress: Progress | None) -> None:
    if body.total is not None:
        require_space(part.path.parent, body.total - body.start)
    etag = response.headers.get("ETag", "")
    # A weak ETag names a meaning, not bytes: If-Range may not carry it.
    part.version = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
    done = body.start
    with part.path.open("r+b" if body.start else "wb") as file:
        file.seek(done)
        for piece in response.iter_raw():
            done += file.write(piece)
            if progress:
                progress(done, body.total)


def _accept(url: str, part: _Part, target: Path, sha256: str) -> None:
    actual = sha256_of(part.path)
    if actual != sha256:
        part.discard()
        raise DownloadError(
            f"What {_public(url)} sent is not the expected file: its SHA-256 is {actual}, not {sha256}.",
            hint="The damaged file was removed. Try again; if that fails too, a proxy or mirror is changing the file.",
        )
    part.path.replace(target)
    part.discard()


def _check_status(url: str, response: httpx.Response) -> None:
    """Raise DownloadError for an error that is final, _Unsteady for one that may pass."""
    status = response.status_code
    if response.is_success:
        return
    if status == 429 or status >= 500:
        raise _Unsteady(f"HTTP {status} {response.reason_phrase}".rstrip())
    if status == 404:
        raise DownloadError(f"{_public(url)} does not exist (HTTP 404).", hint="Check the mirror that is configured.")
    raise DownloadError(f"{_public(url)} answered HTTP {status} {response.reason_phrase}".rstrip() + ".")


def _unreachable(url: str, error: Exception) -> DownloadError:
    return DownloadError(
        f"{_public(url)} cannot be fetched: {str(error) or type(error).__name__}.",
        hint="Check the network and the proxy settings (HTTPS_PROXY), then run the same command: it resumes.",
    )


def _public(url: str) -> str:
    """The URL without the user name and password that an index URL may carry."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return scheme + separator + host.rpartition("@")[2] + slash + path.partition("?")[0]


def _timeout() -> httpx.Timeout:
    import httpx

    return httpx.Timeout(30.0, connect=10.0)
