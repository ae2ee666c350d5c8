"""Fallback over real sockets: attempts of the retries and of the fallbacks are one list."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from llama4sdk import Completion, Endpoint, Policy, RetryPolicy, Timeouts
from llama4sdk.backend import Capabilities, Need
from llama4sdk.errors import Llama4Error, OverloadedError
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.plan import Plan
from llama4sdk.progress import Progress
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.requests import Request
from tests.session.backends import CALL_KINDS, NamedBackend, ScriptedBackends, text_answer


class Plain(Reader):
    """The body is the answer's text."""

    def feed(self, data: bytes) -> Iterable[Event]:
        """Text of these bytes."""
        return [TextDelta(text=data.decode())]

    def end(self) -> Iterable[Event]:
        """The end of the answer."""
        return [Finish(reason="stop")]


class PlainDialect(Dialect):
    """Posts an empty body and reads plain text."""

    backend = "wired"

    def __init__(self, url: str) -> None:
        self.url = url

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        """One call."""
        return Call("POST", self.url), Plain()

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        """Every error status means no capacity."""
        return OverloadedError("It is full.", backend=self.backend, status=head.status, retryable=True)


class Wired(NamedBackend):
    """A backend behind HTTP."""

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> RemoteEngine:
        """An engine for the address of the endpoint."""
        assert need.endpoint is not None
        assert need.endpoint.url is not None
        dialect = PlainDialect(need.endpoint.url)
        return RemoteEngine(model=plan.model, context_length=100, dialect=dialect, endpoint=need.endpoint)


@contextmanager
def server(status: int) -> Iterator[str]:
    """The address of a server on loopback that answers with this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(status)
            self.send_header("content-length", "5")
            self.end_headers()
            self.wfile.write(b"wired")

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        httpd.server_close()


@contextmanager
def silent() -> Iterator[str]:
    """An address where connections are taken and nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def refused() -> Iterator[str]:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


def ask(how: str, url: str) -> Completion[Any]:
    """The answer of a client with this server and a local fallback."""
    backends = ScriptedBackends().add("wired", [], abilities=Capabilities(features=frozenset({"chat", "astream"})))
    backends.add("here", text_answer("from here"), kind="local")
    backends.backend("wired").__class__ = Wired
    retry = RetryPolicy(retries=2, base=0.001, throttled=0.001, longest=0.002)
    endpoint = Endpoint(url=url, retry=retry, timeouts=Timeouts(connect=2, first_byte=0.5))
    return backends.chat(how, backend="wired", endpoint=endpoint, policy=Policy(fallback=("here",)))


@pytest.mark.parametrize("how", CALL_KINDS)
def test_a_server_that_answers(how: str) -> None:
    """A server that answers is the only one that is asked."""
    with server(200) as url:
        answer = ask(how, url)
    assert (answer.text, answer.backend) == ("wired", "wired")
    assert [attempt.error for attempt in answer.attempts] == [None]


@pytest.mark.parametrize("how", CALL_KINDS)
@pytest.mark.parametrize(
    ("failing_server", "count", "words"),
    [(lambda: server(503), 3, "OverloadedError"), (refused, 3, "APIConnectionError"), (silent, 1, "APITimeoutError")],
    ids=["503", "refused", "silent"],
)
def test_a_server_that_does_not(how: str, failing_server: Any, count: int, words: str) -> None:
    """The attempts of the retries come first, then that of the fallback."""
    with failing_server() as url:
        answer = ask(how, url)
    assert (answer.text, answer.backend) == ("from here", "here")
    assert [attempt.backend for attempt in answer.attempts] == ["wired"] * count + ["here"]
    assert all(words in (attempt.error or "") for attempt in answer.attempts[:-1])
