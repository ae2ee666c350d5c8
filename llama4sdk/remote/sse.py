"""Bytes as lines or as server-sent events, however they were cut on their way. Pure, and bounded."""

from __future__ import annotations

from typing import Final, NamedTuple

from llama4sdk.errors import APIError

LINE: Final = 64
"""Bytes that an empty line of an event counts for: endlessly many of them are no event either."""

BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

__all__ = ["LONGEST_LINE", "LineDecoder", "SSEDecoder", "ServerSentEvent"]

LONGEST_LINE: Final = 16 * 2**20
"""Bytes a line may have. A whole answer fits; what is longer is no answer."""


class LineDecoder:
    """Lines that end with CR, LF or both, without their ends. What has no end yet waits for more."""

    def __init__(self, *, longest: int = LONGEST_LINE) -> None:
        self._longest = longest
        self._rest = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now. Raises APIError for one that is too long."""
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
        if len(self._rest) > self._longest:
            raise _too_long(self._longest)
        return lines

    def end(self) -> bytes:
        """What came after the last line's end."""
        rest = bytes(self._rest)
        self._rest.clear()
        return rest


class ServerSentEvent(NamedTuple):
    """``name`` is "message" where the server gives none."""

    name: str
    data: bytes


class SSEDecoder:
    """Events of a ``text/event-stream``: comments are dropped, several lines of data become one."""

    def __init__(self, *, longest: int = LONGEST_LINE) -> None:
        self._lines = LineDecoder(longest=longest)
        self._longest = longest
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """The events that are whole now. Raises APIError for one that is too long."""
        events = []
        for line in self._lines.feed(data):
            if line:
                self._take(line)
            elif event := self._event():
                events.append(event)
        return events

    def end(self) -> ServerSentEvent | None:
        """An event that no empty line ended: some servers send their last one so."""
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
        self._size += len(value) + LINE
        if self._size > self._longest:
            raise _too_long(self._longest)

    def _event(self) -> ServerSentEvent | None:
        data = self._data
        if not data:
            self._name = ""
            return None
        event = ServerSentEvent(self._name or "message", data[0] if len(data) == 1 else b"\n".join(data))
        self._name, self._data, self._size = "", [], 0
        return event


def _too_long(longest: int) -> APIError:
    return APIError(
        f"The endpoint sent a line of more than {longest // 2**20} MiB.",
        hint="It does not speak the protocol expected.",
    )
