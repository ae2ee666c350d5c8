"""Bedrock: errors before and after the first token."""

from __future__ import annotations

import asyncio

import pytest

from llama4sdk.errors import (
    APIStatusError,
    Llama4Error,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
)

from .clients import QUICK, make_async_client, make_client
from .fake_bedrock import FakeBedrock, converse_frames
from .test_frames import FAILED, THROTTLED

pytestmark = pytest.mark.usefixtures("keys")

USAGE = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}


def stream_start(*more: bytes) -> list[bytes]:
    """The beginning of a stream: two words, then these frames."""
    return [*converse_frames([{"text": "one two"}], "end_turn", USAGE)[:3], *more]


@pytest.mark.parametrize("frame", [THROTTLED, FAILED], ids=["exception", "error"])
def test_errors_before_the_first_token_are_retried(bedrock: FakeBedrock, frame: bytes) -> None:
    """A frame with an error, instead of an answer, is followed by another request."""
    bedrock.script.append(lambda handler, request: handler.stream([frame]))
    with make_client(bedrock) as client:
        answer = client.chat("hi")
    assert answer.text == "hi"
    assert len(answer.attempts) == 2


def test_errors_after_the_first_token_are_not_retried(bedrock: FakeBedrock) -> None:
    """The caller has the text so far; the request is not sent again."""
    bedrock.script.append(lambda handler, request: handler.stream(stream_start(THROTTLED)))
    texts = []
    with make_client(bedrock) as client, pytest.raises(RateLimitError):
        for event in client.chat("hi", stream=True):
            texts.append(getattr(event, "text", ""))
    assert texts == ["one", " two"]
    assert len(bedrock.requests) == 1


@pytest.mark.parametrize("end", [True, False], ids=["clean end", "broken connection"])
def test_a_stream_without_its_end_is_interrupted(bedrock: FakeBedrock, end: bool) -> None:
    """A stream without messageStop is incomplete."""
    bedrock.script.append(lambda handler, request: handler.stream(stream_start(), end=end))
    with make_client(bedrock) as client, pytest.raises(StreamInterruptedError) as caught:
        client.chat("hi")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one two"
    assert len(bedrock.requests) == 1


def test_a_damaged_frame_within_an_answer_is_an_interruption(bedrock: FakeBedrock) -> None:
    """A wrong checksum ends the answer; the error has the partial text."""
    damaged = bytearray(b"".join(stream_start(stream_start()[1])))
    damaged[-6] ^= 1
    bedrock.script.append(lambda handler, request: handler.stream([bytes(damaged)]))
    with make_client(bedrock) as client, pytest.raises(StreamInterruptedError, match="damaged") as caught:
        client.chat("hi")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one two"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(503, "ServiceUnavailableException", OverloadedError), (500, "InternalServerException", APIStatusError)],
)
def test_faults_of_the_service_are_retried(
    bedrock: FakeBedrock, status: int, code: str, kind: type[Llama4Error]
) -> None:
    """They are retried twice at most, and each attempt is recorded."""
    for _ in range(3):
        bedrock.script.append(lambda handler, request: handler.send_refusal(status, code, "sorry"))
    with make_client(bedrock) as client, pytest.raises(kind) as caught:
        client.chat("hi")
    assert len(bedrock.requests) == 1 + QUICK.retries
    assert [attempt.error is not None for attempt in getattr(caught.value, "attempts", ())] == [True] * 3


def test_concurrent_streams_in_one_loop(bedrock: FakeBedrock) -> None:
    """Concurrent streams in small pieces give each request its own answer."""
    bedrock.piece_bytes = 16

    async def run() -> list[str]:
        async with make_async_client(bedrock) as client:
            answers = await asyncio.gather(*(client.chat(f"number {n} of many") for n in range(20)))
        return [answer.text for answer in answers]

    assert asyncio.run(run()) == [f"number {n} of many" for n in range(20)]
