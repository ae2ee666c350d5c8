"""Decodes Amazon's event streams (``application/vnd.amazon.eventstream``); botocore checks sums and sizes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from botocore.eventstream import EventStreamBuffer, ParserError

from llama4sdk.errors import APIConnectionError, StreamInterruptedError


class Frame(NamedTuple):
    """A frame: ``kind`` is ``event``, ``exception`` or ``error``, ``name`` its type or code.

    Only an ``error`` has a ``message``; it has no payload.
    """

    kind: str
    name: str
    payload: bytes
    message: str = ""


class FrameDecoder:
    """Frames, however their bytes were cut. A frame is at most 24 MiB, its headers 128 KiB."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._buffer = EventStreamBuffer()
        self._pieces: list[bytes] = []
        # Bytes of incomplete frames, and how many there must be for a frame to be complete: botocore copies all of them
        # for each piece it is given, so it is given none before.
        self._pending_bytes = 0
        self._needed_bytes = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete now. Raises APIConnectionError for a damaged one."""
        self._pieces.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes < self._needed_bytes:
            return
        self._buffer.add_data(b"".join(self._pieces))
        self._pieces.clear()
        while True:
            try:
                message = self._buffer.next()
            except StopIteration:
                prelude = getattr(self._buffer, "_prelude", None)  # of the frame that has begun, its size checked
                self._needed_bytes = prelude.total_length if prelude else 0
                return
            except (ParserError, struct.error, KeyError, ValueError) as error:
                raise APIConnectionError(
                    f"'{self._backend}' sent a damaged frame: {error}.",
                    backend=self._backend,
                    retryable=True,
                    hint="The connection, or something in between, changes what is sent.",
                ) from error
            self._pending_bytes -= message.prelude.total_length
            yield _frame(message.headers, message.payload)

    def end(self) -> None:
        """End the stream. Raises StreamInterruptedError where a frame is incomplete."""
        if self._pending_bytes:
            raise StreamInterruptedError(
                f"The answer from '{self._backend}' ends within a frame.", hint="Asking again starts a new answer."
            )


def _frame(headers: dict[str, object], payload: bytes) -> Frame:
    kind = str(headers.get(":message-type", "event"))
    if kind == "error":
        return Frame(kind, str(headers.get(":error-code", "")), payload, str(headers.get(":error-message", "")))
    return Frame(kind, str(headers.get(":exception-type" if kind == "exception" else ":event-type", "")), payload)
