"""Lines and server-sent events, however their bytes were cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama4sdk.errors import APIError
from llama4sdk.remote.sse import LineDecoder, ServerSentEvent, SSEDecoder

STREAM = st.text(alphabet="ab: \n\r\x00dé", max_size=60).map(lambda words: words.encode())
LINES = st.lists(
    st.sampled_from(
        [b"data: a", b"data:", b"data", b"data:  b", b"event: x", b": c", b"", b"id: 1", b"\xef\xbb\xbfdata: d"]
    )
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The same bytes in pieces."""
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in itertools.pairwise(marks)]


def lines(pieces: list[bytes]) -> list[bytes]:
    decoder = LineDecoder()
    return [*(line for piece in pieces for line in decoder.feed(piece)), decoder.end()]


def events(pieces: list[bytes]) -> list[ServerSentEvent | None]:
    decoder = SSEDecoder()
    return [*(event for piece in pieces for event in decoder.feed(piece)), decoder.end()]


@given(STREAM, st.lists(st.integers(0, 60)))
def test_lines_do_not_depend_on_cuts(data: bytes, places: list[int]) -> None:
    """Any cut gives what splitting the whole gives."""
    whole = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    assert lines(cut(data, places)) == whole


@given(LINES, ENDS, st.lists(st.integers(0, 200)))
def test_events_do_not_depend_on_cuts(sent: list[bytes], end: bytes, places: list[int]) -> None:
    """Any cut, down to single bytes, gives the events that the whole gives, with any line ends."""
    data = end.join(sent) + end
    whole = events([b"\n".join(sent) + b"\n"])
    assert events(cut(data, places)) == whole
    assert events([data[place : place + 1] for place in range(len(data))]) == whole


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_no_bytes_are_too_strange(data: bytes, places: list[int]) -> None:
    """Anything at all is read without an error, and in the same way for any cut."""
    assert events(cut(data, places)) == events([data])


def test_the_parts_of_an_event() -> None:
    """Names, several lines of data, comments and unknown fields, as the standard has them."""
    data = (
        b"\xef\xbb\xbf: hello\nevent: delta\nid: 4\ndata: one\ndata:two\nretry: 9\n\ndata\n\nevent: alone\n\ndata: end"
    )
    assert events([data]) == [
        ServerSentEvent("delta", b"one\ntwo"),
        ServerSentEvent("message", b""),
        ServerSentEvent("message", b"end"),
    ]


@pytest.mark.parametrize("piece", [b"a", b"data: a\n", b"data:\n"])
def test_what_has_no_end_is_refused(piece: bytes) -> None:
    """A line, or an event, without end is an error before it is a burden."""
    decoder = SSEDecoder(max_bytes=2**12)
    with pytest.raises(APIError, match="more than"):
        for _ in range(2**13):
            list(decoder.feed(piece))


def test_a_line_of_the_longest_length_is_taken() -> None:
    """The limit itself is within."""
    decoder = LineDecoder(max_bytes=8)
    assert decoder.feed(b"12345678\n1234") == [b"12345678"]
    assert decoder.feed(b"5678") == []
    with pytest.raises(APIError):
        decoder.feed(b"9")
