"""Sockets for asyncio, as httpcore wants them: one protocol of our own instead of anyio's streams.

That saves two system calls and a turn of the loop for each piece of an answer, and closing needs no waiting.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, Final
from weakref import WeakSet

import httpcore

from llama4sdk.remote.clock import FOREVER, Limit, seconds
from llama4sdk.remote.network import pieces

__all__ = ["AsyncNetwork"]

HIGH: Final = 2**18
"""Bytes that may wait for the reader before the server is held back."""

EYEBALLS: Final = 0.25
"""Seconds after which a name's next address is tried beside the first."""


class AsyncNetwork(httpcore.AsyncNetworkBackend):
    """For one event loop."""

    def __init__(self) -> None:
        self.closed = False
        self._streams: WeakSet[AsyncStream] = WeakSet()
        self._connecting: set[asyncio.Task[Any]] = set()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """A connection, its name lookup within the same limit."""
        if self.closed:
            raise httpcore.ConnectError("closed")
        loop = asyncio.get_running_loop()
        opening = loop.create_connection(lambda: AsyncStream(loop), host, port, happy_eyeballs_delay=EYEBALLS)
        task = loop.create_task(opening)
        self._connecting.add(task)
        try:
            done, _ = await asyncio.wait((task,), timeout=min(seconds(timeout), FOREVER))
        except BaseException:
            task.add_done_callback(_discard)
            task.cancel()
            raise
        finally:
            self._connecting.discard(task)
        if not done:
            task.add_done_callback(_discard)
            task.cancel()
            raise httpcore.ConnectTimeout("timed out")
        if task.cancelled():
            raise httpcore.ConnectError("closed")
        try:
            _, stream = task.result()
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from error
        self._streams.add(stream)
        return stream

    async def sleep(self, seconds: float) -> None:
        """Between httpcore's own retries, which are not used."""
        await asyncio.sleep(seconds)

    def close(self) -> None:
        """Break every connection; whoever waits for one wakes. To be called in the loop's own thread."""
        self.closed = True
        for task in self._connecting:
            task.cancel()
        for stream in list(self._streams):
            stream.abort()


def _discard(task: asyncio.Task[Any]) -> None:
    """A connection that nobody waits for any more, made in the same moment."""
    if not task.cancelled() and task.exception() is None:
        task.result()[0].abort()


class AsyncStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """A socket that asks, before each step, how long it may take."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._arrived: list[bytes] = []
        self._size = 0
        self._paused = False
        self._ended = False
        self._lost: Exception | None = None
        self._full = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._arrived.append(data)
        self._size += len(data)
        if self._size > HIGH and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self._ended = True
        _wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._lost = True, exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """All that has arrived; nothing at the end."""
        if not self._arrived and not self._ended:
            self._reader = self._loop.create_future()
            await self._wait(self._reader, timeout, httpcore.ReadTimeout("timed out"))
        if self._arrived:
            data = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
            self._arrived.clear()
            self._size = 0
            if self._paused:
                self._paused = False
                self._transport.resume_reading()
            if isinstance(timeout, Limit):
                timeout.heard = True
            return data
        if self._lost is not None:
            raise httpcore.ReadError(str(self._lost)) from self._lost
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """All of it; large ones piece by piece, as fast as the other side takes them."""
        for piece in pieces(buffer):
            if self._ended:
                raise httpcore.WriteError(str(self._lost or "closed"))
            self._transport.write(piece)
            if self._full:
                self._writer = self._loop.create_future()
                await self._wait(self._writer, timeout, httpcore.WriteTimeout("timed out"))

    async def _wait(self, future: asyncio.Future[None], timeout: float | None, late: Exception) -> None:  # noqa: ASYNC109
        timer = self._loop.call_later(seconds(timeout), _fail, future, late)
        try:
            await future
        finally:
            timer.cancel()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted."""
        try:
            async with asyncio.timeout(seconds(timeout)):
                self._transport = await self._loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            self.abort()
            raise httpcore.ConnectTimeout("timed out") from error
        except OSError as error:
            self.abort()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            self.abort()
            raise
        return self

    def abort(self) -> None:
        """Let go of the socket, in the loop's next turn; whoever waits wakes."""
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        self.abort()

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            return self._ended or bool(self._arrived)
        return self._transport.get_extra_info(info)


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
