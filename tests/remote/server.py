"""A server on loopback that sends exactly the bytes it is told to, when it is told to. No HTTP library is involved.

A script is what one connection gets: bytes are sent as they are, iterators lazily, and the other steps are below.
Connection number *n* gets script number *n*; further ones get the last.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias

__all__ = ["Drip", "Hold", "Pause", "Read", "Reset", "Script", "Secure", "Server", "Step", "answer", "chunked"]

#: Seconds that ``Hold`` and ``Drip`` last at most, so that a broken deadline fails a test and does not hang it.
LONGEST: Final = 20.0


class Read:
    """Read one request, head and body."""


class Hold:
    """Say nothing more until the other side goes, then go."""


class Reset:
    """Break the connection at once, as a crash does."""


@dataclass(frozen=True)
class Pause:
    """Wait a moment, so that what was sent is read by itself."""

    seconds: float = 0.03


@dataclass(frozen=True)
class Drip:
    """One byte every so often, over and over."""

    data: bytes
    pause: float = 0.02


@dataclass(frozen=True)
class Secure:
    """Encrypt from here on."""

    context: ssl.SSLContext


Step: TypeAlias = bytes | Read | Hold | Reset | Drip | Pause | Secure | Callable[[], Iterator[bytes]]
Script: TypeAlias = Sequence[Step]


def answer(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """A whole HTTP answer with its length."""
    given = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """A 200 whose body comes in these pieces, with or without its end."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body + (b"0\r\n\r\n" if end else b"")


class Server:
    """Use as a context manager; ``requests`` holds the bytes of every request that was read."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._scripts = scripts
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=512)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._over = threading.Event()
        self.connections = 0
        self.requests: list[bytes] = []
        #: Set when a script has come to a ``Hold``.
        self.reached = threading.Event()
        name = f"[{host}]" if ":" in host else host
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{name}:{self.port}"

    def __enter__(self) -> Self:
        self._listener.settimeout(0.05)
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts, where the system allows it
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._start(self._serve, connection, script)

    def _serve(self, connection: socket.socket, script: Script) -> None:
        connection.settimeout(LONGEST)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._open.add(connection)
        try:
            for step in script if self._tls is None else (Secure(self._tls), *script):
                if isinstance(step, Secure):
                    self._open.discard(connection)
                    connection = step.context.wrap_socket(connection, server_side=True)
                    self._open.add(connection)
                else:
                    self._perform(connection, step)
        except OSError:  # the other side has gone, which is for the test to judge
            pass
        finally:
            self._open.discard(connection)
            connection.close()

    def _perform(self, connection: socket.socket, step: Step) -> None:
        assert not isinstance(step, Secure)
        if isinstance(step, bytes):
            connection.sendall(step)
        elif isinstance(step, Read):
            self.requests.append(_request(connection))
        elif isinstance(step, Hold):
            self.reached.set()
            _until_gone(connection)
        elif isinstance(step, Reset):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        elif isinstance(step, Pause):
            self._over.wait(step.seconds)
        elif isinstance(step, Drip):
            end = time.monotonic() + LONGEST
            while time.monotonic() < end:
                for number in range(len(step.data)):
                    connection.sendall(step.data[number : number + 1])
                    if self._over.wait(step.pause):
                        return
        else:
            for piece in step():
                connection.sendall(piece)


def _until_gone(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _more(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    pieces, size = [body], len(body)
    while size < length:
        pieces.append(_more(connection))
        size += len(pieces[-1])
    return head + b"\r\n\r\n" + b"".join(pieces)


def _more(connection: socket.socket) -> bytes:
    if not (data := connection.recv(2**18)):
        raise ConnectionResetError("the other side has gone")
    return data
