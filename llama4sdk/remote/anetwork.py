"""Sockets for asyncio, as httpcore wants them: one protocol of our own instead of anyio's streams.

That saves two system calls or a turn of the loop for each piece of an answer, and closing needs no waiting.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias, cast
from weakref import WeakSet

import httpcore

from llama4sdk.remote.clock import FOREVER, Limit, seconds
from llama4sdk.remote.network import pieces

__all__ = ["AsyncNetwork"]

Address: TypeAlias = tuple[Any, Any, int, str, Any]
"""As ``getaddrinfo`` gives it."""

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
        task = asyncio.get_running_loop().create_task(_connected(host, port))
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
            stream = task.result()
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


async def _connected(host: str, port: int) -> AsyncStream:
    """What ``loop.create_connection`` does, which loses a socket when it is cancelled in the wrong moment."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    connection = await (_dial(found[0]) if len(found) == 1 else _first(found))
    _, stream = await loop.create_connection(lambda: AsyncStream(loop), sock=connection)
    return stream


async def _first(addresses: Sequence[Address]) -> socket.socket:
    """A connection to whichever address answers first; each is given a start over the next."""
    waiting: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        for number, address in enumerate(addresses):
            waiting.add(asyncio.create_task(_dial(address)))
            last = number == len(addresses) - 1
            while waiting:
                start = None if last else EYEBALLS
                done, _ = await asyncio.wait(waiting, timeout=start, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    waiting.discard(task)
                    if (error := task.exception()) is None:
                        return task.result()
                    errors.append(cast("OSError", error))
                if done or not last:
                    break
        raise errors[0]
    finally:
        for task in waiting:
            task.add_done_callback(_discard)
            task.cancel()


async def _dial(address: Address) -> socket.socket:
    family, kind, protocol, _, place = address
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, place)
    except BaseException:
        connection.close()
        raise
    return connection


def _discard(task: asyncio.Task[Any]) -> None:
    """A connection that nobody waits for any more, made in the same moment."""
    if not task.cancelled() and task.exception() is None:
        made = task.result()
        made.abort() if isinstance(made, AsyncStream) else made.close()


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
        self._transport.pause_reading()  # what comes before anything is asked may be for TLS to read
        self._paused = True

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
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        if not self._arrived and not self._ended:
            self._reader = self._loop.create_future()
            await self._wait(self._reader, timeout, httpcore.ReadTimeout("timed out"))
        if self._arrived:
            data = self._arrived[0] if len(self._arrived) == 1 else b"".join(self._arrived)
            self._arrived.clear()
            self._size = 0
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
                self._paused = False
        except TimeoutError as error:
            self.abort()
            raise httpcore.ConnectTimeout("timed out") from error
        except OSError as error:
            self.abort()
            raise httpcore.ConnectError(str(error)) from error
        except BaseException:
            self.abort()
            raise
        if self._transport is None or self._transport.is_closing():  # asyncio takes an abort for a handshake's end
            raise httpcore.ConnectError("the connection was closed within the TLS handshake")
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
