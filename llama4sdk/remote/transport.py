"""Sends calls and receives replies in one event loop, with httpx.

Redirects are never followed, since credentials would follow them; cookies are not kept; bodies are decompressed here,
within bounds; and every wait ends at one of the request's deadlines, or when the transport is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, Final, Self

import httpx

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, Llama4Error, StreamClosedError
from llama4sdk.remote.body import Body, Decompressor
from llama4sdk.remote.clients import Clients, Sender, parse_url
from llama4sdk.remote.connection_errors import connection_error, is_disconnect, status_response, transport_errors
from llama4sdk.remote.deadlines import Deadlines, Wait, WaitGroup
from llama4sdk.remote.dialect import Call, Head
from llama4sdk.remote.threaded_client import raw_body
from llama4sdk.remote.tls_and_proxy import TrustStore

#: Bytes that an answer read whole may have.
MAX_BODY_BYTES: Final = 64 * 2**20

#: Bytes of an error's body that are read.
MAX_ERROR_BODY_BYTES: Final = 2**16


class Reply:
    """An answer whose body is still to be read: iterate over its pieces, decompressed, as they arrive."""

    def __init__(self, response: httpx.Response, deadlines: Deadlines, waits: WaitGroup, backend: str) -> None:
        self.head = Head(response.status_code, dict(response.headers.items()))
        self._deadlines = deadlines
        self._waits = waits
        self._backend = backend
        self._decompressor = None if response.is_closed else Decompressor.for_head(self.head, backend)
        self._body = Body(aiter(raw_body(response)))
        self._pieces: Iterator[bytes] = iter(())

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._decompressor is None:
            return await self._read()
        while (piece := next(self._pieces, None)) is None:
            self._pieces = self._decompressor.feed(await self._read())
        return piece

    async def _read(self) -> bytes:
        try:
            async with self._waits.until(self._deadlines.read_end()):
                data = await self._body.read()
        except transport_errors() as error:
            failure = connection_error(error, self._backend, self._deadlines.expired_phase(connecting=False))
            raise failure from failure.__cause__
        self._deadlines.begin_body()
        return data

    async def read(self) -> bytes:
        """The whole body. Raises APIError for one that is too large."""
        body = bytearray()
        async for data in self:
            body += data
            if len(body) > MAX_BODY_BYTES:
                raise APIError(
                    f"'{self._backend}' answered with more than {MAX_BODY_BYTES // 2**20} MiB.",
                    backend=self._backend,
                    hint="It does not speak the protocol expected, or its answer is damaged.",
                )
        return bytes(body)

    async def read_error(self) -> bytes:
        """The beginning of an error's body, as far as it arrives soon. Its status is known, so nothing here fails."""
        self._deadlines.begin_error_body()
        body = bytearray()
        with suppress(Llama4Error):
            async for data in self:
                body += data
                if len(body) >= MAX_ERROR_BODY_BYTES:
                    break
        return bytes(body[:MAX_ERROR_BODY_BYTES])

    async def close(self) -> None:
        """Stop receiving the body."""
        await self._body.close()


class Transport:
    """The connections of one engine in one event loop."""

    def __init__(self, trust_store: TrustStore, endpoint: Endpoint) -> None:
        self.waits = WaitGroup()
        self._clients = Clients(trust_store, endpoint)
        self._keeper: AsyncGenerator[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def open(self, call: Call, deadlines: Deadlines, backend: str) -> AsyncIterator[Reply]:
        """Send a call; leaving the block before the body's end closes the connection."""
        deadlines.begin_attempt()
        if self.waits.closed:
            raise StreamClosedError("The client is closed.", hint="Make a new one.")
        try:
            url = parse_url(call.url)
        except transport_errors() as error:
            raise connection_error(error, backend, "connect") from None
        async with self._clients.use(url) as client:
            response = await self._send(client, call, deadlines, backend)
            try:
                reply = Reply(response, deadlines, self.waits, backend)
                try:
                    yield reply
                finally:
                    await reply.close()
            finally:
                await response.aclose()

    async def close_with_loop(self, on_close: Callable[[], object]) -> None:
        """Close the connections when the event loop ends, even if nobody closes the engine.

        A loop closes its asynchronous generators before itself, so one of them waits for that.
        """

        async def keep() -> AsyncGenerator[None]:
            try:
                yield
            finally:
                on_close()
                await self.close()

        self._keeper = keep()
        await anext(self._keeper)

    def close_soon(self) -> None:
        """Wake whoever waits, and close every connection in a task."""
        self.waits.close()
        self._closing = asyncio.create_task(self.close())

    async def close(self) -> None:
        """Wake whoever waits, and close every connection."""
        self.waits.close()
        await self._clients.close()

    async def _send(self, client: Sender, call: Call, deadlines: Deadlines, backend: str) -> httpx.Response:
        trace = _Trace(deadlines)
        try:
            try:
                return await self._send_once(client, call, trace)
            except transport_errors() as error:
                if not (trace.reused_connection and is_disconnect(error)) or self.waits.closed:
                    raise
            trace = _Trace(deadlines)  # the server had closed an idle connection: that is no attempt of the caller's
            return await self._send_once(client, call, trace)
        except transport_errors() as error:
            if (response := status_response(error)) is not None:
                return response
            failure = connection_error(error, backend, deadlines.expired_phase(connecting=trace.connecting))
            raise failure from failure.__cause__

    async def _send_once(self, client: Sender, call: Call, trace: _Trace) -> httpx.Response:
        try:
            async with self.waits.until(trace.deadlines.read_end()) as trace.wait:
                return await client.send(call, _headers(call), trace)
        except BaseException:
            await trace.close_connection()
            raise


class _Trace:
    """Follows a request's way through httpcore, whose "trace" extension it is: connecting has a deadline of its own."""

    def __init__(self, deadlines: Deadlines) -> None:
        self.deadlines = deadlines
        self.wait: Wait | None = None
        self.connecting = False
        self._connected = False
        self._sent = False
        self._stream: Any = None

    @property
    def reused_connection(self) -> bool:
        """Whether the request was sent on a connection that had been idle."""
        return self._sent and not self._connected

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        self.record(event, info)

    def record(self, event: str, info: Mapping[str, Any]) -> None:
        """Note an event. To be called in the event loop's own thread."""
        if event.endswith("connect_tcp.started"):
            self.connecting = self._connected = True
            self._reschedule(self.deadlines.begin_connecting())
        elif event.endswith("connect_tcp.complete"):
            self._stream = info["return_value"]
        elif event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            self._sent = True
            if self.connecting:
                self.connecting = False
                self._reschedule(self.deadlines.read_end())

    async def close_connection(self) -> None:
        """Close a connection that is not made to its end: httpcore forgets one whose TLS handshake is cancelled."""
        if self.connecting and self._stream is not None:
            await self._stream.aclose()

    def _reschedule(self, when: float) -> None:
        if self.wait is not None:
            self.wait.reschedule(when)


def _headers(call: Call) -> dict[str, str]:
    """The call's headers, and ours where it has none of that name."""
    names = {name.lower() for name in call.headers}
    return {**{name: value for name, value in _default_headers() if name.lower() not in names}, **call.headers}


@lru_cache(maxsize=1)
def _default_headers() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import version

    return ("Accept", "*/*"), ("Accept-Encoding", "identity"), ("User-Agent", f"llama4sdk/{version('llama4sdk')}")
