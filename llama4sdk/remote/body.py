"""A response's body: read ahead in a task of its own, and decompressed in pieces of bounded size."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Final, Self

from llama4sdk.errors import APIError
from llama4sdk.remote.dialect import Head

#: Bytes that may wait to be read before the server is held back.
MAX_WAITING_BYTES: Final = 2**18

#: Bytes that come out at once, however many went in: a kilobyte can hold a megabyte.
MAX_PIECE_BYTES: Final = 2**20

#: Values of Content-Encoding for bodies that are not compressed; the last two are seen in the wild, and mean nothing.
PLAIN_ENCODINGS: Final = ("", "identity", "utf-8", "none")


class Body:
    """Hands over what arrives together at once.

    HTTP libraries give each chunk of a body by itself, and one network read may bring dozens of a token each. Whatever
    is done for a piece, from setting a timer to waking a thread, is done once for a network read here. The task also
    keeps anyio's cancel scopes, within which httpx reads, out of the caller's tasks.
    """

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._error: Exception | None = None
        self._ended = False
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._task = asyncio.create_task(self._receive(pieces))

    async def read(self) -> bytes:
        """Everything that has arrived. Raises StopAsyncIteration at the end, or the error that ended the body."""
        await self._arrived.wait()
        if self._pieces:
            data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces.clear()
            self._size = 0
            self._room.set()
            if not self._ended:
                self._arrived.clear()
            return data
        raise self._error or StopAsyncIteration

    async def close(self) -> None:
        """Stop receiving."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def _receive(self, pieces: AsyncIterator[bytes]) -> None:
        try:
            async for piece in pieces:
                self._pieces.append(piece)
                self._size += len(piece)
                self._arrived.set()
                if self._size > MAX_WAITING_BYTES:
                    self._room.clear()
                    await self._room.wait()
        except Exception as error:  # noqa: BLE001 - raised again where it is read
            self._error = error
        finally:
            self._ended = True
            self._arrived.set()
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()  # now, which would otherwise be a task's work later


class Decompressor:
    """Decompresses gzip and zlib, whichever a server sent although it was asked not to."""

    def __init__(self, backend: str) -> None:
        self._decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._backend = backend

    @classmethod
    def for_head(cls, head: Head, backend: str) -> Self | None:
        """Choose by Content-Encoding: ``None`` for a body that is not compressed.

        Raises APIError for an encoding that cannot be read, unless the answer is an error: its status says enough.
        """
        encoding = head.headers.get("content-encoding", "").strip().lower()
        if encoding in PLAIN_ENCODINGS:
            return None
        if encoding in ("gzip", "x-gzip", "deflate"):
            return cls(backend)
        if not head.ok:
            return None
        raise APIError(
            f"'{backend}' answered in '{encoding[:40]}', which was not asked for.",
            backend=backend,
            hint="Something between here and the server packs its answers: turn that off.",
        )

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the pieces that these bytes complete, each of at most MAX_PIECE_BYTES."""
        piece = self._decompress(data)
        yield piece
        while len(piece) == MAX_PIECE_BYTES:
            piece = self._decompress(self._decompressor.unconsumed_tail)
            yield piece

    def _decompress(self, data: bytes) -> bytes:
        try:
            return self._decompressor.decompress(data, MAX_PIECE_BYTES)
        except zlib.error as error:
            raise APIError(
                f"'{self._backend}' sent a damaged body: {error}.",
                backend=self._backend,
                hint="Something between here and the server changes its answers.",
            ) from error
