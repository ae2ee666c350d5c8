"""Decodes bytes to lines or server-sent events, in whatever pieces they arrive. Pure, and bounded."""

from __future__ import annotations

from typing import Final, NamedTuple

from llama4sdk.errors import APIError

#: Bytes that each line of an event counts for beside its own: endlessly many empty ones are no event either.
LINE_OVERHEAD_BYTES: Final = 64

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

#: Bytes that a line may have. A whole answer fits; what is longer is no answer.
MAX_LINE_BYTES: Final = 16 * 2**20


class LineDecoder:
    """Splits bytes into lines that end with CR, LF or both; an incomplete line waits for more bytes."""

    def __init__(self, *, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that these bytes complete, without their ends. Raises APIError for a line that is too long."""
        if self._after_cr and data[:1] == b"\n":  # its CR came with the bytes before
            data = data[1:]
            self._after_cr = False
        if not data:
            return []
        self._after_cr = data[-1:] == b"\r"
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = data.split(b"\n")
        if self._rest:
            self._rest += lines[0]
            if len(lines) > 1:
                lines[0] = bytes(self._rest)
                self._rest.clear()
                self._rest += lines.pop()
            else:
                lines.clear()
        elif rest := lines.pop():
            self._rest += rest
        if len(self._rest) > self._max_bytes:
            raise _too_long(self._max_bytes)
        return lines

    def end(self) -> bytes:
        """The bytes after the last line's end."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


class ServerSentEvent(NamedTuple):
    """One event; ``name`` is "message" where the server gives none."""

    name: str
    data: bytes


class SSEDecoder:
    """Decodes a ``text/event-stream``: comments are dropped, several lines of data are joined."""

    def __init__(self, *, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._lines = LineDecoder(max_bytes=max_bytes)
        self._max_bytes = max_bytes
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that these bytes complete. Raises APIError for an event that is too long."""
        events = []
        for line in self._lines.feed(data):
            if line:
                self._take(line)
            elif event := self._event():
                events.append(event)
        return events

    def end(self) -> ServerSentEvent | None:
        """The last event, where no empty line ended it: some servers omit it."""
        if line := self._lines.end():
            self._take(line)
        return self._event()

    def _take(self, line: bytes) -> None:
        if line.startswith(b"data: "):  # as nearly all are
            value = line[6:]
        else:
            field, _, value = line.removeprefix(BYTE_ORDER_MARK).partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                self._name = value.decode("utf-8", "replace")
            if field != b"data":
                return
        self._data.append(value)
        self._size += len(value) + LINE_OVERHEAD_BYTES
        if self._size > self._max_bytes:
            raise _too_long(self._max_bytes)

    def _event(self) -> ServerSentEvent | None:
        data = self._data
        if not data:
            self._name = ""
            return None
        event = ServerSentEvent(self._name or "message", data[0] if len(data) == 1 else b"\n".join(data))
        self._name, self._data, self._size = "", [], 0
        return event


def _too_long(max_bytes: int) -> APIError:
    return APIError(
        f"The endpoint sent a line of more than {max_bytes // 2**20} MiB.",
        hint="It does not speak the protocol expected.",
    )
