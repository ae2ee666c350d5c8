"""Event streams: frames of other implementations, cut or damaged anywhere."""

from __future__ import annotations

import struct
import zlib

import pytest
from llama4sdk_aws.aws_errors import make_error
from llama4sdk_aws.converse_stream import ConverseStreamReader
from llama4sdk_aws.frames import Frame, FrameDecoder

from llama4sdk.errors import APIConnectionError, APIError, RateLimitError, StreamInterruptedError
from llama4sdk.events import Event, Finish, TextDelta, ToolCallDelta

from .fake_bedrock import converse_frames
from .wire_format import error, event, exception, frame

#: Frames made by @smithy/eventstream-codec 4.5.2.
DELTA = bytes.fromhex(
    "0000009f00000057c37babff0b3a6576656e742d74797065070011636f6e74656e74426c6f636b44656c74610d3a636f6e74656e742d747970"
    "650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070005" + b"event".hex()
    + b'{"contentBlockIndex":0,"delta":{"text":"Hi"},"p":"abcd"}'.hex() + "f2ace5ff"
)  # fmt: skip
THROTTLED = (
    bytes.fromhex("000000b0000000614f5086b3")
    + frame(
        {
            ":exception-type": "throttlingException",
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        b'{"message":"Too many tokens, please wait before trying again."}',
    )[12:-4]
    + bytes.fromhex("f70ae57f")
)
FAILED = bytes.fromhex(
    "0000005a0000004a8188a08d0d3a6d6573736167652d74797065070005" + b"error".hex() + "0b3a6572726f722d636f646507000f"
    + b"InternalFailure".hex() + "0e3a6572726f722d6d657373616765070004" + b"boom".hex() + "d78e0703"
)  # fmt: skip
ANSWER = converse_frames(
    [{"text": "naïve 日本 🦙"}, {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Lima"}}}],
    "tool_use",
    {"inputTokens": 3, "outputTokens": 4, "totalTokens": 7},
)


def read(*pieces: bytes) -> list[Event]:
    """The events of an answer that arrives in these pieces."""
    reader = ConverseStreamReader("bedrock", (), lambda report: make_error(report, backend="bedrock", model="scout"))
    events = [item for piece in pieces for item in reader.feed(piece)]
    return [*events, *reader.end()]


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        (DELTA, Frame("event", "contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"Hi"},"p":"abcd"}')),
        (
            THROTTLED,
            Frame(
                "exception",
                "throttlingException",
                b'{"message":"Too many tokens, please wait before trying again."}',
            ),
        ),
        (FAILED, Frame("error", "InternalFailure", b"", "boom")),
    ],
    ids=["event", "exception", "error"],
)
def test_frames_of_smithy_are_read(whole: bytes, expected: Frame) -> None:
    """Frames of AWS' other implementation are read, whole and byte by byte."""
    assert list(FrameDecoder("bedrock").feed(whole)) == [expected]
    decoder = FrameDecoder("bedrock")
    assert [item for byte in whole for item in decoder.feed(bytes([byte]))] == [expected]


def test_the_fakes_frames_are_those_of_smithy() -> None:
    """The fakes' encoder makes the same bytes."""
    assert len(DELTA) == 159
    assert len(THROTTLED) == 176
    assert len(FAILED) == 90
    body = {"contentBlockIndex": 0, "delta": {"text": "Hi"}, "p": "abcd"}
    assert event("contentBlockDelta", body) == DELTA
    assert exception("throttlingException", "Too many tokens, please wait before trying again.") == THROTTLED
    assert error("InternalFailure", "boom") == FAILED


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_an_answer_does_not_depend_on_how_it_is_cut(size: int) -> None:
    """Pieces of any size give the events of the whole."""
    whole = b"".join(ANSWER)
    events = read(*(whole[position : position + size] for position in range(0, len(whole), size)))
    assert events == read(whole)
    assert "".join(item.text for item in events if isinstance(item, TextDelta)) == "naïve 日本 🦙"
    calls = [item for item in events if isinstance(item, ToolCallDelta)]
    assert (calls[0].id, calls[0].name) == ("t1", "weather")
    assert "".join(item.arguments for item in calls) == '{"city": "Lima"}'
    assert isinstance(last := events[-1], Finish)
    assert last.reason == "tool_calls"
    assert (last.usage.input_tokens, last.usage.output_tokens) == (3, 4)


def test_an_answer_cut_anywhere_is_interrupted() -> None:
    """A part of an answer is never taken for a whole one, whatever byte it ends before."""
    whole = b"".join(ANSWER)
    metadata_start = len(whole) - len(ANSWER[-1])
    for position in range(len(whole)):
        if position == metadata_start:  # only the usage is missing
            assert isinstance(read(whole[:position])[-1], Finish)
            continue
        with pytest.raises(StreamInterruptedError):
            read(whole[:position])


def test_a_changed_bit_is_detected_anywhere() -> None:
    """Checksums cover every byte: a change is an error, never another text."""
    whole = b"".join(ANSWER[:3])
    for position in range(len(whole)):
        damaged = whole[:position] + bytes([whole[position] ^ 0x10]) + whole[position + 1 :]
        with pytest.raises((APIConnectionError, StreamInterruptedError)):
            read(damaged)


@pytest.mark.parametrize(("total", "headers"), [(0, 0), (11, 0), (15, 0), (64, 4096), (2**25, 0), (2**31, 2**30)])
def test_impossible_sizes_are_refused(total: int, headers: int) -> None:
    """A frame with impossible sizes and a valid checksum is damaged, and not waited for."""
    prelude = struct.pack(">II", total, headers)
    data = prelude + struct.pack(">I", zlib.crc32(prelude)) + bytes(64)
    with pytest.raises(APIConnectionError, match="damaged"):
        list(FrameDecoder("bedrock").feed(data))


def test_a_large_frame_in_small_pieces_takes_linear_time() -> None:
    """Quadratic time would be minutes."""
    whole = event("contentBlockDelta", {"text": "x" * 2**23})
    decoder = FrameDecoder("bedrock")
    frames = [item for position in range(0, len(whole), 64) for item in decoder.feed(whole[position : position + 64])]
    assert [len(item.payload) for item in frames] == [2**23 + len('{"text":""}')]
    decoder.end()


def test_unknown_frames_are_ignored() -> None:
    """Padding, an initial response, unknown events and empty starts do not change the answer."""
    first = frame({":event-type": "initial-response", ":message-type": "event"}, b"")
    unknown_event = event("somethingNew", {"text": "no"})
    empty_start = event("contentBlockStart", {"contentBlockIndex": 0, "start": {}})
    assert read(first, ANSWER[0], unknown_event, empty_start, *ANSWER[1:]) == read(*ANSWER)


def test_calls_without_arguments_have_an_empty_object() -> None:
    """Blocks are identified by their index, and one that ends without input has no arguments."""
    start = [
        event(
            "contentBlockStart", {"contentBlockIndex": n, "start": {"toolUse": {"toolUseId": f"t{n}", "name": "now"}}}
        )
        for n in (3, 5)
    ]
    arguments = event("contentBlockDelta", {"contentBlockIndex": 5, "delta": {"toolUse": {"input": '{"a":1}'}}})
    stops = [event("contentBlockStop", {"contentBlockIndex": n}) for n in (3, 5)]
    events = read(*start, arguments, *stops, event("messageStop", {"stopReason": "tool_use"}))
    calls = [item for item in events if isinstance(item, ToolCallDelta)]
    assert [(call.index, call.arguments) for call in calls] == [(0, ""), (1, ""), (1, '{"a":1}'), (0, "{}")]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("tool_use", "tool_calls"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("guardrail_intervened", "content_filter"),
        ("content_filtered", "content_filter"),
    ],
)
def test_reasons_to_stop(stop: str, reason: str) -> None:
    """Each of Bedrock's reasons is one of the SDK's."""
    last = read(event("messageStop", {"stopReason": stop}))[-1]
    assert isinstance(last, Finish)
    assert last.reason == reason


@pytest.mark.parametrize(("stop", "again"), [("malformed_tool_use", True), ("a_reason_of_2027", False)])
def test_unknown_stop_reasons_are_errors(stop: str, again: bool) -> None:
    """An answer with an unknown end is not passed off as complete."""
    with pytest.raises(APIError, match=stop) as caught:
        read(event("messageStop", {"stopReason": stop}))
    assert caught.value.retryable is again


def test_exceptions_within_a_stream_are_errors() -> None:
    """Throttling is a RateLimitError within a stream too."""
    with pytest.raises(RateLimitError) as caught:
        read(*ANSWER[:2], THROTTLED)
    assert caught.value.retryable
