"""A real HTTP server on this machine that can be told to misbehave the ways real ones do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class Served:
    """One file, and how it is served."""

    body: bytes
    content_type: str = "application/octet-stream"
    etag: str | None = '"one"'
    ranges: bool = True
    drop_after: list[int] = field(default_factory=list)
    """For each next request: send this many bytes, then cut the connection."""
    statuses: list[int] = field(default_factory=list)
    """For each next request: answer with this error status instead."""
    gate: threading.Event | None = None
    """Send the first half, then wait for this."""


@dataclass
class FileServer:
    """``files`` by path; ``requests`` is what was asked: (path, Range or None)."""

    url: str
    files: dict[str, Served] = field(default_factory=dict)
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def ranges_asked(self, path: str) -> list[str | None]:
        """The Range header of each request for this path."""
        return [asked for requested, asked in self.requests if requested == path]


def _answer(handler: BaseHTTPRequestHandler, server: FileServer) -> None:
    asked = handler.headers.get("Range")
    server.requests.append((handler.path, asked))
    file = server.files.get(handler.path)
    status = 404 if file is None else file.statuses.pop(0) if file.statuses else 200
    if file is None or status != 200:
        handler.send_error(status)
        return
    start = 0
    condition = handler.headers.get("If-Range")
    if asked and file.ranges and condition in (None, file.etag):
        start = int(asked.removeprefix("bytes=").rstrip("-"))
    if start and start >= len(file.body):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(file.body)}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(file.body) - 1}/{len(file.body)}")
    if file.etag:
        handler.send_header("ETag", file.etag)
    handler.send_header("Content-Type", file.content_type)
    handler.send_header("Content-Length", str(len(file.body) - start))
    handler.end_headers()
    _send(handler, file, file.body[start:])


def _send(handler: BaseHTTPRequestHandler, file: Served, body: bytes) -> None:
    try:
        if file.drop_after:
            handler.wfile.write(body[: file.drop_after.pop(0)])
            handler.close_connection = True
            return
        half = len(body) // 2
        handler.wfile.write(body[:half])
        handler.wfile.flush()
        if file.gate is not None:
            file.gate.wait(30)
        handler.wfile.write(body[half:])
    except ConnectionError:
        pass  # the client left: that is its right


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A running server with no files yet."""
    served = FileServer(url="")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, served)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    served.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield served
    for file in served.files.values():
        if file.gate is not None:
            file.gate.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def serve() -> type[Served]:
    """The class of a served file."""
    return Served
