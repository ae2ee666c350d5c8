"""The one thing that sends and receives: once for threads, once for asyncio.

It lies on httpcore, which is what httpx lies on. What ``httpx.Client`` adds is left out on purpose: redirects are never
followed, since credentials would follow them; cookies are not kept; bodies are unpacked here, within bounds.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import lru_cache
from typing import Any, Final, Self

import httpcore
import httpx

from llama4sdk.errors import APIError, Llama4Error
from llama4sdk.remote.breaks import BREAKS, explained
from llama4sdk.remote.clock import Clock, Limit
from llama4sdk.remote.connections import AsyncConnections, Connections
from llama4sdk.remote.dialect import Call, Head
from llama4sdk.remote.surroundings import Trust
from llama4sdk.remote.unpacking import Unpacker

__all__ = ["LARGEST", "AsyncReply", "AsyncTransport", "Reply", "Transport"]

LARGEST: Final = 64 * 2**20
"""Bytes that an answer read whole may have."""

LARGEST_ERROR: Final = 2**16
"""Bytes of an error's explanation that are read."""


class Reply:
    """An answer whose body is still to be read: iterate over its pieces, unpacked, as they arrive."""

    def __init__(self, response: httpcore.Response, clock: Clock, backend: str) -> None:
        self.head = _head(response)
        self._body: Any = iter(response.stream)  # type: ignore[arg-type]
        self._clock = clock
        self._backend = backend
        self._unpacker = Unpacker.of(self.head, backend)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._unpacker is not None and self._unpacker.waiting:
            return self._unpacker.more()
        try:
            data: bytes = next(self._body)
        except BREAKS as error:
            failure = explained(error, self._clock, self._backend)
            raise failure from failure.__cause__
        self._clock.arrived()
        return data if self._unpacker is None else self._unpacker.feed(data)

    def read(self) -> bytes:
        """The whole body. Raises APIError for one that is too large."""
        body = bytearray()
        for data in self:
            body += data
            if len(body) > LARGEST:
                raise _too_large(self._backend)
        return bytes(body)

    def explanation(self) -> bytes:
        """What arrives of an error's body, soon and within bounds. Its status is known, so nothing here fails."""
        self._clock.explaining()
        body = bytearray()
        with suppress(Llama4Error):
            for data in self:
                body += data
                if len(body) >= LARGEST_ERROR:
                    break
        return bytes(body[:LARGEST_ERROR])


class Transport:
    """Sends calls; safe to use from several threads."""

    def __init__(self, trust: Trust) -> None:
        self._connections = Connections(trust)
        self._closed = threading.Event()

    @contextmanager
    def open(self, call: Call, clock: Clock, backend: str) -> Iterator[Reply]:
        """Send a call; leaving the block before the body's end closes the connection."""
        clock.begin()
        try:
            exchange = self._connections.send(_request(call, clock))
        except BREAKS as error:
            failure = explained(error, clock, backend)
            raise failure from failure.__cause__
        try:
            yield Reply(exchange.response, clock, backend)
        finally:
            exchange.close()

    def rest(self, seconds: float) -> None:
        """Wait, or until it is closed."""
        if seconds > 0:
            self._closed.wait(seconds)

    def close(self) -> None:
        """Close every connection; whoever waits for one wakes."""
        self._closed.set()
        self._connections.close()


class AsyncReply:
    """The twin of ``Reply``."""

    def __init__(self, response: httpcore.Response, clock: Clock, backend: str) -> None:
        self.head = _head(response)
        self._body: Any = aiter(response.stream)  # type: ignore[arg-type]
        self._clock = clock
        self._backend = backend
        self._unpacker = Unpacker.of(self.head, backend)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._unpacker is not None and self._unpacker.waiting:
            return self._unpacker.more()
        try:
            data: bytes = await anext(self._body)
        except BREAKS as error:
            failure = explained(error, self._clock, self._backend)
            raise failure from failure.__cause__
        self._clock.arrived()
        return data if self._unpacker is None else self._unpacker.feed(data)

    async def read(self) -> bytes:
        """The whole body. Raises APIError for one that is too large."""
        body = bytearray()
        async for data in self:
            body += data
            if len(body) > LARGEST:
                raise _too_large(self._backend)
        return bytes(body)

    async def explanation(self) -> bytes:
        """What arrives of an error's body, soon and within bounds. Its status is known, so nothing here fails."""
        self._clock.explaining()
        body = bytearray()
        with suppress(Llama4Error):
            async for data in self:
                body += data
                if len(body) >= LARGEST_ERROR:
                    break
        return bytes(body[:LARGEST_ERROR])

    async def close(self) -> None:
        """Let go of the body's generator now, which would otherwise be a task's work later."""
        await self._body.aclose()


class AsyncTransport:
    """The twin of ``Transport``, for one event loop."""

    def __init__(self, trust: Trust) -> None:
        self._connections = AsyncConnections(trust)
        self._closed = asyncio.Event()

    @asynccontextmanager
    async def open(self, call: Call, clock: Clock, backend: str) -> AsyncIterator[AsyncReply]:
        """Send a call; leaving the block before the body's end closes the connection."""
        clock.begin()
        try:
            exchange = await self._connections.send(_request(call, clock))
        except BREAKS as error:
            failure = explained(error, clock, backend)
            raise failure from failure.__cause__
        try:
            reply = AsyncReply(exchange.response, clock, backend)
            try:
                yield reply
            finally:
                await reply.close()
        finally:
            await exchange.close()

    async def rest(self, seconds: float) -> None:
        """Wait, or until it is closed."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), max(0.0, seconds))

    def close(self) -> None:
        """Break every connection; whoever waits for one wakes. To be called in the loop's own thread."""
        self._closed.set()
        self._connections.close()


def _request(call: Call, clock: Clock) -> httpcore.Request:
    url, host = _place(call.url)
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in call.headers.items()]
    given = {name.lower() for name, _ in headers}
    own = {b"host": host, b"user-agent": _agent(), b"accept": b"*/*", b"accept-encoding": b"identity"}
    if call.content or call.method not in ("GET", "HEAD", "DELETE"):
        own[b"content-length"] = str(len(call.content)).encode()
    headers = [(name, value) for name, value in own.items() if name not in given] + headers
    limit, connecting = Limit(clock.left), Limit(clock.connecting)
    patience = {"connect": connecting, "read": limit, "write": limit}
    return httpcore.Request(call.method, url, headers=headers, content=call.content, extensions={"timeout": patience})


@lru_cache(maxsize=256)
def _place(url: str) -> tuple[httpcore.URL, bytes]:
    """Where that is, and what the ``Host`` header says of it."""
    read = httpx.URL(url)
    if read.scheme not in ("http", "https"):
        raise httpcore.UnsupportedProtocol("neither http nor https")
    place = httpcore.URL(scheme=read.raw_scheme, host=read.raw_host, port=read.port, target=read.raw_path)
    return place, read.netloc


@lru_cache(maxsize=1)
def _agent() -> bytes:
    from importlib.metadata import version

    return f"llama4sdk/{version('llama4sdk')}".encode()


def _head(response: httpcore.Response) -> Head:
    headers: dict[str, str] = {}
    for raw, value in response.headers:
        name, text = raw.decode("latin-1").lower(), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return Head(response.status, headers)


def _too_large(backend: str) -> APIError:
    return APIError(
        f"'{backend}' answered with more than {LARGEST // 2**20} MiB.",
        backend=backend,
        hint="It does not speak the protocol expected, or its answer is damaged.",
    )
