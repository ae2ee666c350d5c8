"""A response's body, read ahead in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

#: Bytes that may wait to be read before the server is held back.
MAX_WAITING_BYTES: Final = 2**18


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
