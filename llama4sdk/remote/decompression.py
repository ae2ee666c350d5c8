"""Decompression of bodies that a server compressed although it was asked not to, in pieces of bounded size. Pure."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final, Self

from llama4sdk.errors import APIError
from llama4sdk.remote.dialect import Head

#: Bytes that come out at once, however many went in: a kilobyte can hold a megabyte.
MAX_PIECE_BYTES: Final = 2**20

#: Values of Content-Encoding for bodies that are not compressed; the last two are seen in the wild, and mean nothing.
PLAIN_ENCODINGS: Final = ("", "identity", "utf-8", "none")


class Decompressor:
    """Decompresses gzip and zlib, whichever it is."""

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
