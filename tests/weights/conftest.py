"""A real HTTP server on this machine: a package index and a model hub in one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@dataclass
class FileServer:
    """``files`` by path; ``requests`` are the paths that were asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    #: Only the first half of a file is sent until this is set.
    gate: threading.Event = field(default_factory=threading.Event)
    #: Set when the first half of a file has been sent.
    half_sent: threading.Event = field(default_factory=threading.Event)


def _answer(handler: BaseHTTPRequestHandler, server: FileServer, *, head: bool) -> None:
    server.requests.append(handler.path)
    body = server.files.get(handler.path)
    if body is None:
        handler.send_error(404)
        return
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html" if handler.path.endswith("/") else "application/octet-stream")
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", '"one"')
    handler.send_header("X-Repo-Commit", "0" * 40)
    handler.end_headers()
    if not head:
        _send(handler, server, body)


def _send(handler: BaseHTTPRequestHandler, server: FileServer, body: bytes) -> None:
    half = len(body) // 2
    try:
        handler.wfile.write(body[:half])
        handler.wfile.flush()
        if not handler.path.endswith("/"):
            server.half_sent.set()
            server.gate.wait(30)
        handler.wfile.write(body[half:])
    except ConnectionError:
        pass  # the client was killed


@pytest.fixture
def server() -> Iterator[FileServer]:
    """A running server with no files yet, and an open gate."""
    files = FileServer(url="")
    files.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            _answer(self, files, head=False)

        def do_HEAD(self) -> None:
            _answer(self, files, head=True)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    files.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield files
    files.gate.set()
    http.shutdown()
    thread.join()
    http.server_close()
