"""Bedrock: answers that fail, before their first token and after it."""

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

from .clients import QUICK, ask, ask_async
from .fake_bedrock import FakeBedrock, converse_frames
from .test_frames import FAILED, THROTTLED

pytestmark = pytest.mark.usefixtures("keys")

USAGE = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}


def begun(*more: bytes) -> list[bytes]:
    """The beginning of a stream: two words, then these frames."""
    return [*converse_frames([{"text": "one two"}], "end_turn", USAGE)[:3], *more]


@pytest.mark.parametrize("frame", [THROTTLED, FAILED], ids=["exception", "error"])
def test_errors_before_the_first_token_are_tried_again(bedrock: FakeBedrock, frame: bytes) -> None:
    """Nothing was said yet, so nothing is lost."""
    bedrock.script.append(lambda handler, seen: handler.stream([frame]))
    with ask(bedrock) as client:
        answer = client.chat("hi")
    assert answer.text == "hi"
    assert len(answer.attempts) == 2


def test_errors_after_the_first_token_are_not(bedrock: FakeBedrock) -> None:
    """What had arrived is kept; the answer is not bought twice."""
    bedrock.script.append(lambda handler, seen: handler.stream(begun(THROTTLED)))
    texts = []
    with ask(bedrock) as client, pytest.raises(RateLimitError):
        for event in client.chat("hi", stream=True):
            texts.append(getattr(event, "text", ""))
    assert texts == ["one", " two"]
    assert len(bedrock.requests) == 1


@pytest.mark.parametrize("end", [True, False], ids=["clean end", "broken connection"])
def test_a_stream_without_its_end_is_interrupted(bedrock: FakeBedrock, end: bool) -> None:
    """An end without messageStop is none."""
    bedrock.script.append(lambda handler, seen: handler.stream(begun(), end=end))
    with ask(bedrock) as client, pytest.raises(StreamInterruptedError) as caught:
        client.chat("hi")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one two"
    assert len(bedrock.requests) == 1


def test_a_damaged_frame_within_an_answer_is_an_interruption(bedrock: FakeBedrock) -> None:
    """Checksums that do not hold end the answer, with what had arrived."""
    damaged = bytearray(b"".join(begun(begun()[1])))
    damaged[-6] ^= 1
    bedrock.script.append(lambda handler, seen: handler.stream([bytes(damaged)]))
    with ask(bedrock) as client, pytest.raises(StreamInterruptedError, match="damaged") as caught:
        client.chat("hi")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one two"


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [(503, "ServiceUnavailableException", OverloadedError), (500, "InternalServerException", APIStatusError)],
)
def test_faults_of_the_service_are_tried_again(
    bedrock: FakeBedrock, status: int, code: str, kind: type[Llama4Error]
) -> None:
    """Twice at most, each with a signature of its own."""
    for _ in range(3):
        bedrock.script.append(lambda handler, seen: handler.refuse(status, code, "sorry"))
    with ask(bedrock) as client, pytest.raises(kind) as caught:
        client.chat("hi")
    assert len(bedrock.requests) == 1 + QUICK.retries
    assert [attempt.error is not None for attempt in getattr(caught.value, "attempts", ())] == [True] * 3


def test_many_at_once_in_one_loop(bedrock: FakeBedrock) -> None:
    """Streams side by side, byte by byte, keep their order."""
    bedrock.piece = 16

    async def run() -> list[str]:
        async with ask_async(bedrock) as client:
            answers = await asyncio.gather(*(client.chat(f"number {n} of many") for n in range(20)))
        return [answer.text for answer in answers]

    assert asyncio.run(run()) == [f"number {n} of many" for n in range(20)]
