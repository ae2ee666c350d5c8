"""AWS' own client reads the fakes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EventStreamError

from .fake_bedrock import COHERE, SCOUT, TITAN, FakeBedrock, converse_frames
from .fake_sagemaker import FakeSageMaker
from .test_frames import THROTTLED
from .wire_format import ACCESS_KEY, SECRET_KEY

HI = [{"role": "user", "content": [{"text": "hi there, naïve 日本 🦙"}]}]
TOOLS = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}]}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def make(fake: FakeBedrock | FakeSageMaker, service: str, secret: str = SECRET_KEY) -> Any:
    """A boto3 client."""
    return boto3.Session().client(
        service,
        region_name="us-east-1",
        endpoint_url=fake.url,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}),
    )


@pytest.fixture
def client(bedrock: FakeBedrock) -> Iterator[Any]:
    """A boto3 client of the fake Bedrock."""
    client = make(bedrock, "bedrock-runtime")
    yield client
    client.close()


def test_converse(client: Any) -> None:
    """A whole answer has its counts and its stop reason."""
    answer = client.converse(modelId=SCOUT, messages=HI, inferenceConfig={"maxTokens": 2})
    assert answer["output"]["message"]["content"] == [{"text": "hi there,"}]
    assert answer["stopReason"] == "max_tokens"
    assert answer["usage"]["outputTokens"] == 2


def test_converse_with_tools_and_an_image(client: Any) -> None:
    """boto3 reads a tool call, and its image is accepted."""
    image = {"image": {"format": "png", "source": {"bytes": PNG}}}
    messages = [{"role": "user", "content": [{"text": "hi"}, image]}]
    answer = client.converse(modelId=SCOUT, messages=messages, toolConfig=TOOLS)
    assert answer["output"]["message"]["content"][1]["toolUse"]["input"] == {"city": "Lima"}


@pytest.mark.parametrize("piece", [0, 1, 100])
def test_converse_stream(client: Any, bedrock: FakeBedrock, piece: int) -> None:
    """Botocore's strict parser takes every event, however it is cut."""
    bedrock.piece_bytes = piece
    events = list(client.converse_stream(modelId=SCOUT, messages=HI)["stream"])
    names = [next(iter(event)) for event in events]
    assert names[0] == "messageStart"
    assert names[-2:] == ["messageStop", "metadata"]
    deltas = [event["contentBlockDelta"]["delta"]["text"] for event in events if "contentBlockDelta" in event]
    assert "".join(deltas) == "hi there, naïve 日本 🦙"


def test_tool_calls_in_a_stream(client: Any) -> None:
    """Of a model that may."""
    stream = client.converse_stream(modelId="anthropic.any-v1:0", messages=HI, toolConfig=TOOLS)["stream"]
    events = list(stream)
    start = next(event["contentBlockStart"] for event in events if "contentBlockStart" in event)
    assert start["start"]["toolUse"]["name"] == "weather"
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert "".join(delta["toolUse"]["input"] for delta in deltas if "toolUse" in delta) == '{"city": "Lima"}'


def test_invoke_and_its_stream(client: Any) -> None:
    """Llama's own schema, whole and in chunks."""
    body = json.dumps({"prompt": "Once upon a time", "max_gen_len": 3})
    whole = json.loads(client.invoke_model(modelId=SCOUT, body=body)["body"].read())
    assert (whole["generation"], whole["stop_reason"]) == ("Once upon a", "length")
    events = client.invoke_model_with_response_stream(modelId=SCOUT, body=body)["body"]
    chunks = [json.loads(event["chunk"]["bytes"]) for event in events]
    assert "".join(chunk["generation"] for chunk in chunks) == "Once upon a"
    assert chunks[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] == 4


@pytest.mark.parametrize(("model", "body"), [(TITAN, {"inputText": "a"}), (COHERE, {"texts": ["a"]})])
def test_embeddings(client: Any, model: str, body: dict[str, Any]) -> None:
    """boto3 gets the vectors of both families."""
    answer = json.loads(client.invoke_model(modelId=model, body=json.dumps(body))["body"].read())
    assert answer.get("embedding") or answer["embeddings"]["float"]


def test_counting(client: Any) -> None:
    """boto3 gets the count of CountTokens."""
    answer = client.count_tokens(modelId=SCOUT.removeprefix("us."), input={"converse": {"messages": HI}})
    assert answer["inputTokens"] == 6


def test_errors(client: Any, bedrock: FakeBedrock) -> None:
    """Errors are those of AWS' service model."""
    with pytest.raises(client.exceptions.ValidationException, match="identifier is invalid"):
        client.converse(modelId="nobodys.model", messages=HI)
    with pytest.raises(client.exceptions.ValidationException, match="on-demand throughput isn"):
        client.converse(modelId=SCOUT.removeprefix("us."), messages=HI)
    bedrock.script.append(lambda handler, request: handler.send_refusal(429, "ThrottlingException", "Too many tokens"))
    with pytest.raises(client.exceptions.ThrottlingException) as caught:
        client.converse(modelId=SCOUT, messages=HI)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429


def test_exceptions_within_a_stream(client: Any, bedrock: FakeBedrock) -> None:
    """An exception's frame ends a stream with that exception."""
    frames = converse_frames([{"text": "hi"}], "end_turn", {})[:2]
    bedrock.script.append(lambda handler, request: handler.stream([*frames, THROTTLED]))
    stream = client.converse_stream(modelId=SCOUT, messages=HI)["stream"]
    with pytest.raises(EventStreamError, match="throttlingException"):
        list(stream)
    stream.close()


def test_a_wrong_key(bedrock: FakeBedrock) -> None:
    """The fake refuses a wrong secret."""
    client = make(bedrock, "bedrock-runtime", "wrong")
    with pytest.raises(ClientError) as caught:
        client.converse(modelId=SCOUT, messages=HI)
    client.close()
    assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"


def test_sagemaker() -> None:
    """Parts of a container's stream are raw bytes; a container's error is a ModelError."""
    with FakeSageMaker() as fake:
        client = make(fake, "sagemaker-runtime")
        body = json.dumps({"inputs": "Once upon", "parameters": {}})
        answer = client.invoke_endpoint_with_response_stream(EndpointName="llama", Body=body)
        lines = b"".join(event["PayloadPart"]["Bytes"] for event in answer["Body"]).splitlines()
        assert json.loads(lines[-1])["generated_text"] == "Once upon"
        with pytest.raises(client.exceptions.ModelError) as caught:
            body = json.dumps({"inputs": "a", "parameters": {"max_new_tokens": 9999}})
            client.invoke_endpoint_with_response_stream(EndpointName="llama", Body=body)
        assert caught.value.response["OriginalStatusCode"] == 400
        client.close()
