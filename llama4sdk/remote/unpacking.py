"""Bodies that a server has packed although it was asked not to, unpacked in pieces of bounded size. Pure."""

from __future__ import annotations

import zlib
from typing import Final, Self

from llama4sdk.errors import APIError
from llama4sdk.remote.dialect import Head

__all__ = ["PIECE", "Unpacker"]

PIECE: Final = 2**20
"""Bytes that come out at once, however many went in: a kilobyte can hold a megabyte."""


class Unpacker:
    """Of gzip and zlib, whichever it is."""

    def __init__(self, backend: str) -> None:
        self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        self._backend = backend
        self._full = False

    @classmethod
    def of(cls, head: Head, backend: str) -> Self | None:
        """``None`` for a body that is as it is. Raises APIError for one that cannot be unpacked."""
        coding = head.headers.get("content-encoding", "").strip().lower()
        if coding in ("", "identity", "utf-8", "none"):  # the last two are seen in the wild, and mean nothing
            return None
        if coding in ("gzip", "x-gzip", "deflate"):
            return cls(backend)
        if not head.ok:  # what it says is less than its status
            return None
        raise APIError(
            f"'{backend}' answered in '{coding[:40]}', which was not asked for.",
            backend=backend,
            hint="Something between here and the server packs its answers: turn that off.",
        )

    @property
    def waiting(self) -> bool:
        """Whether ``more`` has something without new bytes."""
        return self._full

    def more(self) -> bytes:
        """The next piece of what went in before."""
        return self.feed(self._unpacker.unconsumed_tail)

    def feed(self, data: bytes) -> bytes:
        """The first piece of what these bytes hold; nothing where they need others to be understood."""
        try:
            piece = self._unpacker.decompress(data, PIECE)
        except zlib.error as error:
            raise APIError(
                f"'{self._backend}' sent a damaged body: {error}.",
                backend=self._backend,
                hint="Something between here and the server changes its answers.",
            ) from error
        self._full = len(piece) == PIECE
        return piece
