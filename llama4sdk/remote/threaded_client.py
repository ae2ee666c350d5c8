"""A user's ``httpx.Client`` behind the asynchronous interface: each exchange has a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

import httpx

from llama4sdk.endpoint import Timeouts
from llama4sdk.remote.connection_errors import status_response
from llama4sdk.remote.dialect import Call

T = TypeVar("T")

Job: TypeAlias = tuple[Callable[[], Any], "asyncio.Future[Any]"]

#: Trace events that say how far a request has come; the others hold connections, which are the thread's own.
PROGRESS_EVENTS: Final = ("connect_tcp.started", "send_request_headers.started")


class ThreadedClient:
    """Sends calls with the client's own hooks, auth and transport.

    A thread that is blocked in a read cannot be cancelled. Its socket is shut down where it is known; a request on a
    connection that had been idle, of which nothing came back yet, lives on until httpx's own timeout, which is the
    endpoint's for the phase.
    """

    def __init__(self, client: httpx.Client, timeouts: Timeouts) -> None:
        self._client = client
        phases = timeouts.first_byte, timeouts.between
        read = None if None in phases else max(phase for phase in phases if phase is not None)
        self._timeout = (timeouts.connect, read, read, None)

    async def send(self, call: Call, headers: dict[str, str], trace: object) -> httpx.Response:
        """Send a call, and read the response's head; its body is read in the same thread."""
        request = self._client.build_request(
            call.method,
            call.url,
            headers=headers,
            content=call.content,
            timeout=self._timeout,  # the event loop bounds every wait; the thread's own bound only ends it later
            extensions={"trace": trace},
        )
        exchange = _Exchange(request)
        send = partial(self._client.send, request, stream=True, follow_redirects=False)
        try:
            response = await exchange.send(send)
        except BaseException:
            exchange.abort()
            raise
        raw_headers = [  # what a hook has read is decompressed already
            (name, value)
            for name, value in response.headers.raw
            if not (response.is_closed and name.lower() == b"content-encoding")
        ]
        return httpx.Response(response.status_code, headers=raw_headers, stream=_Body(exchange, response))


class _Exchange:
    """One request's thread. It ends with the response, which it closes, whatever happened before."""

    def __init__(self, request: httpx.Request) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._busy = False
        self._stream: Any = None
        self._response: httpx.Response | None = None
        self._record: Callable[[str, Any], None] = request.extensions["trace"].record
        request.extensions["trace"] = self._trace
        run = partial(copy_context().run, self._run)  # in the caller's context: spans of tracing have their parent
        threading.Thread(target=run, name="llama4sdk-http-client", daemon=True).start()

    async def send(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Send the request in the thread."""

        def job() -> httpx.Response:
            try:
                self._response = send()
            except Exception as error:
                self._response = status_response(error)
                if self._response is None:
                    raise
            return self._response

        return await self.call(job)

    async def call(self, function: Callable[[], T]) -> T:
        """Run a function in the thread."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._busy = True
        self._jobs.put((function, future))
        result = await future
        self._busy = False
        return result

    async def close(self) -> None:
        """Close the response, and end the thread."""
        if self._response is None or self._busy:
            self.abort()
            return
        await self.call(self._response.close)
        self._jobs.put(None)

    def abort(self) -> None:
        """End the thread: at once where its socket is known, else when what it does now is over."""
        with suppress(Exception):
            connection = self._stream.get_extra_info("socket")
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's own, which the thread may be in
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:  # noqa: BLE001 - raised again where it is waited for
                error = raised
            with suppress(RuntimeError):  # the loop is closed, and nobody waits
                self._loop.call_soon_threadsafe(_settle, future, result, error)
        if self._response is not None:
            with suppress(Exception):
                self._response.close()

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Follow the request's way, as ``Transport`` does; called in the thread."""
        if event.endswith(("connect_tcp.complete", "start_tls.complete")):
            self._stream = info["return_value"]
        elif event.endswith(PROGRESS_EVENTS):
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._record, event, info)


class _Body(httpx.AsyncByteStream):
    """The response's body, each piece read in the exchange's thread."""

    def __init__(self, exchange: _Exchange, response: httpx.Response) -> None:
        self._exchange = exchange
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = iter(raw_body(self._response))
        while (piece := await self._exchange.call(partial(next, pieces, None))) is not None:
            yield piece

    async def aclose(self) -> None:
        """Close the response in its thread."""
        await self._exchange.close()


def _settle(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def raw_body(response: httpx.Response) -> Any:
    """The body's bytes as they are sent; those a hook of the user's has read already, decompressed.

    A user's hook may also have closed it, by ``raise_for_status``.
    """
    if not response.is_closed:
        return response.stream
    return httpx.ByteStream(response.content if response.is_stream_consumed else b"")
