"""A server that speaks as much of OpenAI's chat protocol as a benchmark needs, and as fast as Python can.

    python benchmarks/fake_endpoint.py

Prints its port, and ends with its standard input. An answer's pieces are numbered, " 0", " 1" and so on, so that none
can be lost or change places unseen; each is a packet of its own. ``max_tokens`` of the request says how many.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from functools import lru_cache

#: Pieces after which other connections have their turn.
BATCH_PIECES = 8


def chunk(**fields: object) -> bytes:
    """One event of a stream, as a chunk of the body."""
    value = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scout", **fields}
    data = b"data: " + json.dumps(value).encode() + b"\n\n"
    return b"%x\r\n%s\r\n" % (len(data), data)


def choice(delta: dict[str, object], reason: str | None = None) -> bytes:
    """A piece of the answer."""
    return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}])


@lru_cache(maxsize=4096)
def piece(number: int) -> bytes:
    """Piece number ``number``."""
    return choice({"content": f" {number}"})


START = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + choice(
    {"role": "assistant", "content": ""}
)


def end(tokens: int) -> bytes:
    """The chunks after the last piece."""
    usage = {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens}
    done = b"data: [DONE]\n\n"
    return choice({}, "stop") + chunk(choices=[], usage=usage) + b"%x\r\n%s\r\n0\r\n\r\n" % (len(done), done)


@lru_cache(maxsize=64)
def whole(tokens: int) -> bytes:
    """The same answer in one piece."""
    message = {"role": "assistant", "content": "".join(f" {number}" for number in range(tokens))}
    value = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "scout",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 8, "completion_tokens": tokens, "total_tokens": 8 + tokens},
    }
    body = json.dumps(value).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


class Connection(asyncio.Protocol):
    """Answers one request after another."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, separator, body = self._data.partition(b"\r\n\r\n")
        if not separator:
            return
        start = head.lower().index(b"content-length:") + len(b"content-length:")
        if len(body) < int(head[start:].split(b"\r\n", 1)[0]):
            return
        self._data = b""
        request = json.loads(body)
        tokens = request.get("max_tokens") or 1
        if not request.get("stream"):
            self._transport.write(whole(tokens))
            return
        self._transport.write(START)
        self._write(0, tokens)

    def _write(self, number: int, tokens: int) -> None:
        if self._transport.is_closing():
            return
        last = min(number + BATCH_PIECES, tokens)
        for index in range(number, last):
            self._transport.write(piece(index))
        if last < tokens:
            self._loop.call_soon(self._write, last, tokens)
        else:
            self._transport.write(end(tokens))


async def serve() -> None:
    """Serve until the standard input ends."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)

    def watch() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(over.set)

    threading.Thread(target=watch, daemon=True).start()
    await over.wait()


if __name__ == "__main__":
    asyncio.run(serve())
