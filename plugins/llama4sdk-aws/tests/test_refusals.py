"""Bedrock: offers, and refusals before anything is sent."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from llama4sdk_aws.bedrock import BedrockBackend

from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import (
    ContextLengthError,
    InvalidRequestError,
    Llama4Error,
    NoBackendError,
    UnsupportedFeatureError,
)
from llama4sdk.messages import ImagePart, Message, ToolCall
from llama4sdk.testing.machines import LAPTOP

from .clients import WEATHER, image_message, make_client
from .fake_bedrock import FakeBedrock
from .test_boto3 import PNG

pytestmark = pytest.mark.usefixtures("keys")


def offer(model: str | None = "scout", **settings: Any) -> Offer | Unavailable:
    """The answer to a need for a model."""
    return BedrockBackend().offer(Need(model=model, **settings), LAPTOP)


JPEG = b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"ab\xff\xc0" + struct.pack(">HBHH", 17, 8, 9000, 10)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (image_message(b"BM not taken"), "PNG, JPEG, GIF and WebP"),
        (image_message(PNG + bytes(4 * 2**20)), "bytes"),
        (image_message(PNG[:16] + struct.pack(">II", 9000, 10) + PNG[24:]), "9000 x 10 pixels"),
        (image_message(b"GIF89a" + struct.pack("<HH", 10, 8001)), "10 x 8001"),
        (image_message(JPEG), "10 x 9000"),
        (image_message(b"RIFF0000WEBPVP8X" + bytes(8) + (8999).to_bytes(3, "little") + bytes(3)), "9000 x 1"),
        (Message(role="user", content=(ImagePart(data=PNG),) * 21), "20 images"),
        (Message(role="user", content=(ImagePart(url="https://example.com/a.png"),)), "bytes only"),
        (Message(role="assistant", content="hi"), "begins with an answer"),
        (Message(role="user", content="   "), "nothing to answer"),
        (Message(role="tool", content="20"), "which call"),
        (Message(role="assistant", tool_calls=(ToolCall(id="1", name="a", arguments="[1"),)), "JSON object"),
    ],
)
def test_requests_that_bedrock_would_refuse_are_not_sent(bedrock: FakeBedrock, message: Message, match: str) -> None:
    """Too many, too large and unknown images, and incomplete conversations, are refused."""
    with make_client(bedrock) as client, pytest.raises(InvalidRequestError, match=match) as caught:
        client.chat([message])
    assert caught.value.hint
    assert not bedrock.requests


def test_late_system_messages_are_not_sent(bedrock: FakeBedrock) -> None:
    """Bedrock takes system messages in front only."""
    late = [Message(role="user", content="a"), Message(role="system", content="b"), Message(role="user", content="c")]
    with make_client(bedrock) as client, pytest.raises(InvalidRequestError, match="in front"):
        client.chat(late)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"temperature": 1.5}, InvalidRequestError),
        ({"seed": 1}, UnsupportedFeatureError),
        ({"top_k": 1}, UnsupportedFeatureError),
        ({"logprobs": 1}, UnsupportedFeatureError),
        ({"schema": {"type": "integer"}}, UnsupportedFeatureError),
        ({"tools": [WEATHER], "tool_choice": "required"}, UnsupportedFeatureError),
        ({"tools": [WEATHER.model_copy(update={"name": "a b"})]}, InvalidRequestError),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_bedrock_lacks_are_refused(bedrock: FakeBedrock, options: Any, kind: type[Llama4Error]) -> None:
    """They are refused before anything is sent."""
    with make_client(bedrock) as client, pytest.raises(kind):
        client.chat("hi", **options)
    assert not bedrock.requests


@pytest.mark.parametrize(
    ("words", "limit"),
    [(3000, 2048), (9000, 2048)],
    ids=["maximum context length is N", "Input is too long"],
)
def test_a_prompt_that_is_too_long(bedrock: FakeBedrock, words: int, limit: int) -> None:
    """Both of Bedrock's messages are a ContextLengthError."""
    with make_client(bedrock, context_length=2048) as client, pytest.raises(ContextLengthError) as caught:
        client.chat("a " * words)
    assert caught.value.limit == limit


@pytest.mark.parametrize("region", ["eu-west-1", "ap-southeast-2", "us-gov-west-1"])
def test_llama_4_is_refused_in_other_regions(region: str) -> None:
    """Only regions of the United States have it; the refusal lists them."""
    answer = offer(endpoint=Endpoint(options={"region": region}))
    assert isinstance(answer, Unavailable)
    assert "us-east-1, us-east-2, us-west-1, us-west-2" in answer.reason


def test_offers() -> None:
    """Limits are those of the registry; names that cannot be Bedrock's are refused."""
    scout, maverick, mistral = offer(), offer("maverick"), offer("mistral.any-v1:0", context_length=100_000)
    assert isinstance(scout, Offer)
    assert isinstance(maverick, Offer)
    assert isinstance(mistral, Offer)
    assert scout.context_length > 2_000_000
    assert maverick.context_length == 1_048_576
    assert mistral.context_length == 100_000
    assert "us.meta.llama4-scout-17b-instruct-v1:0 in us-east-1" in scout.reason
    assert mistral.capabilities is not None
    assert "generate" not in mistral.capabilities.features
    for model in ("demo", "meta-llama/nothing", "Scout!"):
        assert isinstance(offer(model), Unavailable)
    assert isinstance(offer("maverick", context_length=2_000_000), Unavailable)


def test_without_region_or_credentials_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal names what is missing."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    missing = offer()
    assert isinstance(missing, Unavailable)
    assert "AWS_BEARER_TOKEN_BEDROCK" in str(missing.fix)
    monkeypatch.delenv("AWS_REGION")
    missing = offer()
    assert isinstance(missing, Unavailable)
    assert "AWS_REGION" in str(missing.fix)


def test_unknown_options_are_refused() -> None:
    """The error names the nearest option, and never the value."""
    with pytest.raises(NoBackendError, match="guardrail_id") as caught:
        plan_with({"guardrail": "AKIA-secret"})
    assert "AKIA-secret" not in str(caught.value)


def plan_with(options: dict[str, Any]) -> None:
    """Plan with these options."""
    from llama4sdk.client import Client

    Client("scout", backend="bedrock", endpoint=Endpoint(options=options), hardware=LAPTOP).plan()
