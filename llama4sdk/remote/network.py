"""Sockets for threads, as httpcore wants them: deadlines that are asked for at every step, and a close that wakes.

httpcore takes one number of seconds for each read, and leaves name lookups unbounded. Here the number is a ``Limit``.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final
from weakref import WeakSet

import httpcore

from llama4sdk.remote.clock import Limit, seconds

__all__ = ["PIECE", "Network"]

PIECE: Final = 2**18
"""Bytes of a request that are handed to the system at once."""


class Network(httpcore.NetworkBackend):
    """Safe to use from several threads; none of them waits any longer once it is closed."""

    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()
        self.closed = False
        self._sockets: WeakSet[Stream] = WeakSet()
        self._connecting: set[_Connecting] = set()
        self._lock = threading.Lock()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **options: Any
    ) -> httpcore.NetworkStream:
        """A connection, its name lookup within the same limit."""
        left = seconds(timeout)
        attempt = _Connecting(lambda: self._inner.connect_tcp(host, port, left, *args, **options))
        with self._lock:
            self._ensure_open()
            self._connecting.add(attempt)
        try:
            stream = Stream(attempt.wait(left))
        finally:
            with self._lock:
                self._connecting.discard(attempt)
        return self._watch(stream)

    def sleep(self, seconds: float) -> None:
        """Between httpcore's own retries, which are not used."""
        self._inner.sleep(seconds)

    def _watch(self, stream: Stream) -> Stream:
        with self._lock:
            if self.closed:
                stream.close()
                self._ensure_open()
            self._sockets.add(stream)
        return stream

    def _ensure_open(self) -> None:
        if self.closed:
            raise httpcore.ConnectError("closed")

    def close(self) -> None:
        """Wake whoever waits. Each closes its own socket: closed here, its number might be another's already."""
        with self._lock:
            self.closed = True
            waiting, sockets = list(self._connecting), list(self._sockets)
        for attempt in waiting:
            attempt.give_up()
        for stream in sockets:
            stream.shutdown()


class _Connecting:
    """A name lookup cannot be interrupted, so a thread is left alone with it when nobody waits any more."""

    def __init__(self, connect: Callable[[], httpcore.NetworkStream]) -> None:
        self._connect = connect
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._abandoned = False
        self._stream: httpcore.NetworkStream | None = None
        self._error: BaseException | None = None

    def wait(self, timeout: float) -> httpcore.NetworkStream:
        """The connection. Raises ConnectTimeout when it is not there in time."""
        threading.Thread(target=self._run, name="llama4sdk-connect", daemon=True).start()
        try:
            over = self._over.wait(min(timeout, threading.TIMEOUT_MAX))
        except BaseException:  # an interrupt from the keyboard
            self._leave()
            raise
        with self._lock:
            self._abandoned = True
            stream, error, self._error = self._stream, self._error, None
        if stream is not None:
            return stream
        if error is not None:
            raise error
        raise httpcore.ConnectError("closed") if over else httpcore.ConnectTimeout("timed out")

    def _leave(self) -> None:
        with self._lock:
            self._abandoned = True
            if self._stream is not None:
                self._stream.close()

    def give_up(self) -> None:
        """Let the waiting thread go."""
        self._over.set()

    def _run(self) -> None:
        stream, error = None, None
        try:
            stream = self._connect()
        except BaseException as raised:  # noqa: BLE001 - raised again where it is waited for
            error = raised
        with self._lock:
            if not self._abandoned:
                self._stream, self._error = stream, error
                stream = None
        self._over.set()
        if stream is not None:
            stream.close()


class Stream(httpcore.NetworkStream):
    """A socket that asks, before each step, how long it may take."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._encrypting: socket.socket | None = None
        self._lock = threading.RLock()  # a socket's number must not become another's while it is shut down

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has arrived; nothing at the end."""
        data = self._inner.read(max_bytes, seconds(timeout))
        if data and isinstance(timeout, Limit):
            timeout.heard = True
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """All of it; large ones piece by piece, since what could not be sent at once is copied."""
        for piece in pieces(buffer):
            self._inner.write(piece, seconds(timeout))

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> Stream:
        """The same connection, encrypted."""
        self._encrypting = self._inner.get_extra_info("socket").dup()  # the original is taken apart meanwhile
        try:
            self._inner = self._inner.start_tls(ssl_context, server_hostname, seconds(timeout))
        finally:
            with self._lock:
                self._encrypting.close()
                self._encrypting = None
        return self

    def shutdown(self) -> None:
        """Wake a thread that waits for this socket, which closing it would not."""
        with self._lock, contextlib.suppress(OSError):
            connection = self._encrypting or self._inner.get_extra_info("socket")
            socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not TLS's own, which another thread may be in

    def close(self) -> None:
        """Let go of the socket."""
        with self._lock:
            self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def pieces(buffer: bytes) -> Iterator[bytes]:
    """The same in pieces of at most ``PIECE`` bytes."""
    if len(buffer) <= PIECE:
        yield buffer
        return
    view = memoryview(buffer)
    for start in range(0, len(buffer), PIECE):
        yield bytes(view[start : start + PIECE])
