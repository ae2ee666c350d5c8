"""Faults of a server on the wire, one at a time: each ends in its error, and leaves nothing open."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from llama4sdk.errors import (
    APIConnectionError,
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    Llama4Error,
    StreamInterruptedError,
)
from tests.remote.conftest import Ask
from tests.remote.server import Drip, Hold, Pause, Read, Reset, Script, Server, answer, chunked
from tests.remote.small import KEY, engine, event, finish, hello, text

ANSWER = "Hello, llama"
MOMENT = {"first_byte": 0.2, "between": 0.2}


@dataclass
class Fault:
    """A script, and the error it must end in. ``before`` is the text that arrives all the same."""

    script: Script
    error: type[Llama4Error]
    words: str
    before: str = ""
    phase: str = ""
    retryable: bool | None = None
    timeouts: dict[str, float] = field(default_factory=dict)


def plain(body: bytes, **headers: str) -> bytes:
    """An answer that ends with its connection."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1") + body


OPEN = chunked(text("Hello"), end=False)

FAULTS = {
    "silence": Fault([Read(), Hold()], APITimeoutError, "begin to answer", phase="first_byte", timeouts=MOMENT),
    "slow headers": Fault(
        [Read(), b"HTTP/1.1 200 OK\r\n", Drip(b"x-pad: aaaaaaaaaaaaaaaaaaaaaa\r\n")],
        APITimeoutError,
        "begin to answer",
        phase="first_byte",
        timeouts=MOMENT,
    ),
    "a head and no body": Fault(
        [Read(), chunked(end=False), Hold()], APITimeoutError, "begin to answer", phase="first_byte", timeouts=MOMENT
    ),
    "a stream that stalls": Fault(
        [Read(), OPEN, Hold()], APITimeoutError, "stopped sending", "Hello", "between", False, MOMENT
    ),
    "a slow body": Fault(
        [Read(), plain(text("Hello")), Drip(b": still here\n")],
        APITimeoutError,
        "time there was for everything",
        "Hello",
        "total",
        timeouts={**MOMENT, "total": 0.3},
    ),
    "hung up at once": Fault([], APIConnectionError, "broke", retryable=True),
    "hung up when asked": Fault([Read()], APIConnectionError, "broke", retryable=True),
    "reset when asked": Fault([Read(), Reset()], APIConnectionError, "broke", retryable=True),
    "reset within the head": Fault([Read(), b"HTTP/1.1 200 OK\r\nx-", Reset()], APIConnectionError, "broke"),
    "reset before the first token": Fault(
        [Read(), chunked(b": hi\n", end=False), Reset()], APIConnectionError, "broke"
    ),
    "hung up within an answer": Fault([Read(), OPEN], StreamInterruptedError, "cut off", "Hello"),
    "reset within an answer": Fault([Read(), OPEN, Pause(), Reset()], StreamInterruptedError, "cut off", "Hello"),
    "an error inside a 200": Fault([Read(), answer(event(error="no GPU"))], APIError, "gave up: no GPU"),
    "an error after a token": Fault([Read(), answer(text("Hello") + event(error="x"))], APIError, "gave up", "Hello"),
    "truncated JSON": Fault([Read(), answer(text("Hello") + b'data: {"te')], APIError, "no JSON", "Hello"),
    "damaged JSON": Fault([Read(), answer(b'data: {"text": \x00"a"}\n\n')], APIError, "no JSON"),
    "NUL in a header": Fault([Read(), plain(b"", x="a\x00b")], APIConnectionError, "not HTTP", retryable=False),
    "no finish marker": Fault([Read(), answer(text("Hello"))], StreamInterruptedError, "in the middle", "Hello"),
    "no events at all": Fault([Read(), answer(b"")], StreamInterruptedError, "in the middle"),
    "garbage": Fault([Read(), b"SSH-2.0-OpenSSH_9.2\r\n\r\n"], APIConnectionError, "not HTTP", retryable=False),
    "a greeting": Fault([b"220 mail.example ESMTP\r\n", Hold()], APITimeoutError, "begin to answer", timeouts=MOMENT),
    "headers without end": Fault(
        [Read(), b"HTTP/1.1 200 OK\r\n" + b"x-pad: aaaaaaaaaaaa\r\n" * 20_000, Hold()], APIConnectionError, "not HTTP"
    ),
    "a chunk of no size": Fault(
        [Read(), OPEN, b"zz\r\nhm\r\n0\r\n\r\n"], StreamInterruptedError, "not HTTP", before="Hello"
    ),
    "two lengths": Fault(
        [Read(), plain(hello(), content_length="10", Content_Length="20")], APIConnectionError, "not HTTP"
    ),
    "too short a body": Fault(
        [Read(), plain(text("Hello"), content_length="4000")], StreamInterruptedError, "cut off", "Hello"
    ),
    "too short a length": Fault(
        [Read(), plain(text("Hello") + finish(), content_length=str(len(text("Hello"))))],
        StreamInterruptedError,
        "in the middle",
        "Hello",
    ),
    "another packing": Fault([Read(), answer(b"????", content_encoding="br")], APIError, "answered in 'br'"),
    "no packing": Fault([Read(), answer(hello(), content_encoding="gzip")], APIError, "damaged body"),
    "half a packing": Fault(
        [Read(), answer(gzip.compress(hello() * 99)[:60], content_encoding="gzip")],
        StreamInterruptedError,
        "middle",
        "Hello",
    ),
    "a redirection": Fault(
        [Read(), answer(status="302 Found", location="http://elsewhere.example/x?key=1")],
        APIStatusError,
        "http://elsewhere.example/x)",
        retryable=False,
    ),
    "an error without its body": Fault(
        [Read(), b"HTTP/1.1 401 No\r\ncontent-length: 900\r\n\r\n", Hold()],
        AuthenticationError,
        "401",
        timeouts={"total": 0.2},
    ),
    "an error that breaks": Fault(
        [Read(), b"HTTP/1.1 401 No\r\ncontent-length: 900\r\n\r\n{", Reset()], AuthenticationError, "401"
    ),
    "an error without end": Fault(
        [Read(), b"HTTP/1.1 401 No\r\n\r\n" + b"a" * 2**18, Drip(b"a")], AuthenticationError, "401: aaa"
    ),
    "an error in another packing": Fault(
        [Read(), answer(b"?", "401 No", content_encoding="br")], AuthenticationError, "401"
    ),
    "an error that repeats the key": Fault(
        [Read(), answer(event(error=f"wrong key {KEY}"), "401 No", x_request_id=KEY)], AuthenticationError, "[hidden]"
    ),
    "an error inside that repeats the key": Fault([Read(), answer(event(error=KEY))], APIError, "[hidden]"),
    "a status line that repeats the key": Fault([Read(), f"{KEY}\r\n\r\n".encode()], APIConnectionError, "[hidden]"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_has_its_error(name: str, ask: Ask) -> None:
    """The right class, phase and words, no secret in any of them, and what had arrived is not lost."""
    fault = FAULTS[name]
    with Server(fault.script) as server:
        asked = ask(engine(server.url, timeouts=fault.timeouts))
    error = asked.failed
    assert type(error) is fault.error
    assert fault.words in error.message
    assert asked.text == fault.before
    if fault.phase:
        assert isinstance(error, APITimeoutError)
        assert error.phase == fault.phase
    if fault.retryable is not None:
        assert isinstance(error, APIError)
        assert error.retryable is fault.retryable
    if isinstance(error, APIError):
        assert [attempt.backend for attempt in error.attempts] == ["small"]


def tiny(body: bytes) -> bytes:
    """Each byte in a chunk of its own."""
    return chunked(*(body[number : number + 1] for number in range(len(body))))


QUIRKS: dict[str, Script] = {
    "a length": [Read(), answer(hello())],
    "no length": [Read(), plain(hello())],
    "HTTP/1.0": [Read(), b"HTTP/1.0 200 OK\r\n\r\n" + hello()],
    "chunks of one byte": [Read(), tiny(hello())],
    "packets of one byte": [Read(), lambda: (bytes((byte,)) for byte in chunked(hello()))],
    "two finish markers": [Read(), answer(hello() + finish("length"))],
    "no empty line at the end": [Read(), answer(hello().rstrip())],
    "carriage returns": [Read(), answer(hello().replace(b"\n", b"\r\n"))],
    "comments": [Read(), answer(b": ping\n\n" + hello() + b": bye\n\n")],
    "a byte order mark": [Read(), answer(b"\xef\xbb\xbf" + hello())],
    "gzip": [Read(), answer(gzip.compress(hello()), content_encoding="gzip")],
    "deflate": [Read(), answer(zlib.compress(hello()), content_encoding="deflate")],
    "an interim answer": [Read(), b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + answer(hello())],
    "an end that does not come": [Read(), chunked(hello(), end=False), Hold()],
    "an end that breaks": [Read(), chunked(hello(), end=False), Reset()],
    "a body shorter than said": [Read(), plain(hello(), content_length="4000")],
    "nonsense after the end": [Read(), chunked(hello(), b"data: {", end=False)],
    "NUL in a text": [Read(), answer(text("Hello,\x00 llama").replace(b"\\u0000", b"") + finish())],
}


@pytest.mark.parametrize("name", QUIRKS)
def test_quirks_do_no_harm(name: str, ask: Ask) -> None:
    """An odd but complete response is an answer, with exactly one Finish."""
    with Server(QUIRKS[name]) as server:
        asked = ask(engine(server.url))
    assert asked.finish.reason == "stop"
    assert asked.text == ANSWER
    assert asked.finish.usage.cost == 0.5
    assert [attempt.error for attempt in asked.finish.attempts] == [None]


def a_gigabyte() -> Iterator[bytes]:
    """A line of a gigabyte, of which only as much is made as is read."""
    yield b"data: "
    for _ in range(2**12):
        yield b"a" * 2**18


def a_bomb() -> bytes:
    """A gigabyte of one letter in gzip: a thousandth of that."""
    packer = zlib.compressobj(9, wbits=31)
    return b"data: ".join([b"", b"".join(packer.compress(b"a" * 2**20) for _ in range(128)) + packer.flush()])


def unending() -> Iterator[bytes]:
    """Lines of data that never become an event."""
    for _ in range(2**16):
        yield b"data:\n" * 1000


@pytest.mark.parametrize("body", ["a line of a gigabyte", "a bomb", "lines without end"])
def test_memory_is_bounded(body: str, ask: Ask) -> None:
    """Whatever a server sends or packs, no more than some dozen megabytes are held."""
    scripts: dict[str, Script] = {
        "a line of a gigabyte": [Read(), plain(b""), a_gigabyte],
        "a bomb": [Read(), plain(a_bomb().removeprefix(b"data: "), content_encoding="gzip")],
        "lines without end": [Read(), plain(b""), unending],
    }
    with Server(scripts[body]) as server:
        tracemalloc.start()
        try:
            asked = ask(engine(server.url))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert type(asked.failed) is APIError
    assert "more than 16 MiB" in asked.failed.message
    assert peak < 192 * 2**20


def test_an_answer_read_whole_is_bounded() -> None:
    """A body that is not a stream may have 64 MiB."""
    from llama4sdk.remote.dialect import Call

    with Server([Read(), plain(b""), a_gigabyte]) as server:
        remote = engine(server.url)
        with pytest.raises(APIError, match="more than 64 MiB"):
            remote.fetch(Call("GET", server.url))
        remote.close()


STATUSES: dict[str, tuple[str, bool | None]] = {
    "400 Bad Request": ("APIStatusError", False),
    "401 Unauthorized": ("AuthenticationError", False),
    "402 Payment Required": ("RateLimitError", False),
    "403 Forbidden": ("PermissionDeniedError", False),
    "404 Not Found": ("APIStatusError", False),
    "408 Request Timeout": ("APITimeoutError", True),
    "409 Conflict": ("APIStatusError", True),
    "413 Content Too Large": ("APIStatusError", False),
    "422 Unprocessable": ("APIStatusError", False),
    "424 Failed Dependency": ("APIStatusError", True),
    "429 Too Many Requests": ("RateLimitError", True),
    "500 Internal Server Error": ("APIStatusError", True),
    "501 Not Implemented": ("APIStatusError", False),
    "502 Bad Gateway": ("APIStatusError", True),
    "503 Service Unavailable": ("OverloadedError", True),
    "504 Gateway Timeout": ("APITimeoutError", False),
    "529 Overloaded": ("OverloadedError", True),
}
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "an object": b'{"error": {"message": "because", "code": "x"}}',
    "a page": b"<html><style>b{}</style><body><h1>because</h1></body>",
    "half an object": b'{"error": {"mess',
    "no text": b"\xff\xfe\x00\x80",
}


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_its_error(status: str, ask: Ask) -> None:
    """Whatever its body is; and it is tried again only where that may help."""
    name, retryable = STATUSES[status]
    for body in BODIES.values():
        with Server([Read(), answer(body, status)], [Read(), answer(hello())]) as server:
            asked = ask(engine(server.url, retries=1))
        if retryable:
            assert asked.text == ANSWER
            first, last = asked.finish.attempts
            assert (first.error or "").startswith(f"{name}: 'small' answered {status[:3]}")
            assert first.wait is not None
            assert last.error is None
        else:
            error = asked.failed
            assert isinstance(error, APIError)
            assert type(error).__name__ == name
            assert error.status == int(status[:3])
            assert server.connections == 1


WAITS: dict[str, tuple[dict[str, str], float | None]] = {
    "seconds": ({"retry_after": "0.004"}, 0.004),
    "milliseconds": ({"retry_after_ms": "3"}, 0.003),
    "milliseconds first": ({"retry_after": "9", "retry_after_ms": "2"}, 0.002),
    "a date": (
        {"date": "Sat, 21 Nov 2026 16:00:00 GMT", "retry_after": "Sat, 21 Nov 2026 18:00:00 GMT"},
        None,
    ),
    "an hour": ({"retry_after": "3600"}, None),
    "an age": ({"retry_after": "1e300"}, None),
}


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable", "529 Overloaded"])
def test_the_time_a_server_asks_for_is_kept(name: str, status: str, ask: Ask) -> None:
    """Exactly that is waited; where it is too long, the request fails at once and says when to come again."""
    headers, wait = WAITS[name]
    with Server([Read(), answer(b"", status, **headers)], [Read(), answer(hello())]) as server:
        asked = ask(engine(server.url, retries=1))
    if wait is None:
        error = asked.failed
        assert isinstance(error, APIError)
        assert error.retry_after is not None
        assert error.retry_after >= 3600
    else:
        assert asked.finish.attempts[0].wait == pytest.approx(wait)


@pytest.mark.parametrize("value", ["", "soon", "-4", "nan", "inf", "1e999", "Sat, 99 Nov 2026", "0"])
def test_a_time_that_means_nothing_is_left_out(value: str, ask: Ask) -> None:
    """Then the own rule holds, and the request is tried again."""
    busy = answer(b"", "429 Busy", retry_after=value)
    with Server([Read(), busy], [Read(), answer(hello())]) as server:
        assert ask(engine(server.url, retries=1)).text == ANSWER


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_no_credentials_follow_a_redirection(status: str, ask: Ask) -> None:
    """The other host is never asked, and the error says where it would have gone."""
    settings: dict[str, Any] = {"headers": {"x-team": "team-4711"}}
    with Server([Hold()]) as other, Server([Read(), answer(b"", status, location=f"{other.url}/v2")]) as server:
        error = ask(engine(server.url, retries=2, **settings)).failed
    assert type(error) is APIStatusError
    assert f"{other.url.rpartition(':')[0]}" in error.message
    assert other.connections == 0
    assert server.connections == 1
