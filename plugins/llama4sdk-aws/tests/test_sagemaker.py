"""SageMaker: the dialects of its containers, and their errors within AWS' own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from llama4sdk_aws.sagemaker import SageMakerBackend
from pydantic import SecretStr

from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import (
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    Llama4Error,
    OverloadedError,
    PermissionDeniedError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from llama4sdk.messages import ImagePart, Message, ToolCall
from llama4sdk.testing.machines import LAPTOP

from .clients import WEATHER, image_message, make_async_client, make_client
from .fake_sagemaker import FakeSageMaker, part
from .test_boto3 import PNG
from .wire_format import ACCESS_KEY, frame

pytestmark = pytest.mark.usefixtures("keys")


@pytest.fixture(params=[("lmi", False), ("lmi", True), ("tgi", True)], ids=["lmi", "lmi-events", "tgi"])
def container(request: pytest.FixtureRequest) -> Iterator[FakeSageMaker]:
    """Each dialect in each of its framings."""
    dialect, events = request.param
    with FakeSageMaker(dialect=dialect, events=events) as fake:
        yield fake


@pytest.fixture
def lmi() -> Iterator[FakeSageMaker]:
    """LMI with lines of JSON."""
    with FakeSageMaker() as fake:
        yield fake


def offer(model: str | None, **options: Any) -> Offer | Unavailable:
    """The answer to a need with these options."""
    return SageMakerBackend().offer(Need(model=model, endpoint=Endpoint(options=options)), LAPTOP)


@pytest.mark.parametrize("cut", [1, 11, 10_000])
def test_a_chat(container: FakeSageMaker, cut: int) -> None:
    """Messages are in OpenAI's form, and the stream is read wherever it is cut into parts."""
    container.part_bytes = cut
    with make_client(container, "llama", options={"dialect": container.dialect}) as client:
        answer = client.chat("naïve 日本 🦙 and more", max_tokens=3, temperature=0, seed=1, stop="zzz")
    assert (answer.text, answer.finish_reason) == ("naïve 日本 🦙", "length")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (5, 3)
    (request,) = container.requests
    assert request.path == "/endpoints/llama/invocations-response-stream"
    assert request.headers["x-amzn-sagemaker-accept"] == "application/json"
    assert request.json == {
        "messages": [{"role": "user", "content": "naïve 日本 🦙 and more"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 3,
        "temperature": 0.0,
        "seed": 1,
        "stop": ["zzz"],
    }


def test_a_prompt(container: FakeSageMaker) -> None:
    """Prompts are in TGI's form, without the values that a container refuses."""
    options = {"dialect": container.dialect, "messages_api": False}
    with make_client(container, "llama", options=options) as client:
        greedy = client.generate("one two three", temperature=0, max_tokens=2)
        drawn = client.generate("one two STOP three", temperature=0.5, top_p=1, stop="STOP")
    assert (greedy.text, greedy.finish_reason, greedy.usage.output_tokens) == ("one two", "length", 2)
    assert (drawn.text.strip(), drawn.finish_reason) == ("one two", "stop")
    first, second = (request.json["parameters"] for request in container.requests)
    assert (first["max_new_tokens"], first["do_sample"]) == (2, False)
    assert "temperature" not in first
    stop = "stop" if container.dialect == "tgi" else "stop_sequences"
    assert (second["temperature"], second["do_sample"], second[stop]) == (0.5, True, ["STOP"])
    assert "top_p" not in second


def test_tools(container: FakeSageMaker) -> None:
    """Fragments of a call are assembled, and its result is sent back."""
    with make_client(container, "llama", options={"dialect": container.dialect}) as client:
        answer = client.chat("Is it warm?", tools=[WEATHER])
        (call,) = answer.tool_calls
        messages = [
            Message(role="user", content="Is it warm?"),
            answer.message,
            Message(role="tool", tool_call_id=call.id, content="20 °C"),
        ]
        assert client.chat(messages, tools=[WEATHER]).text == "20 °C"
    assert (answer.finish_reason, call, call.parsed()) == (
        "tool_calls",
        ToolCall(id="call_1", name="weather", arguments='{"city": "Lima"}'),
        {"city": "Lima"},
    )
    sent = container.requests[1].json["messages"][1]["tool_calls"][0]
    assert sent == {
        "id": "call_1",
        "type": "function",
        "function": {"name": "weather", "arguments": '{"city": "Lima"}'},
    }


def test_images_are_sent_as_data(lmi: FakeSageMaker) -> None:
    """Containers cannot fetch URLs."""
    with make_client(lmi, "llama") as client:
        client.chat(image_message(PNG))
        with pytest.raises(InvalidRequestError):
            client.chat(Message(role="user", content=(ImagePart(url="https://example.com/a.png"),)))
        with pytest.raises(InvalidRequestError):
            client.chat(image_message(b"no picture"))
    url = lmi.requests[0].json["messages"][0]["content"][1]["image_url"]["url"]
    assert url.startswith("data:image/png;base64,iVBOR")


def test_parts_of_an_endpoint_are_named_in_headers(lmi: FakeSageMaker) -> None:
    """Components, variants and models are headers; the answer keeps the caller's model name."""
    options = {
        "endpoint_name": "llama",
        "inference_component": "c1",
        "target_variant": "v1",
        "target_model": "m1",
        "custom_attributes": "a=b",
        "session_id": "s1",
    }
    with make_client(lmi, "scout", options=options) as client:
        answer = client.chat("hi")
    assert answer.model == "scout"
    headers = lmi.requests[0].headers
    names = ("inference-component", "target-variant", "target-model", "custom-attributes", "session-id")
    assert [headers[f"x-amzn-sagemaker-{name}"] for name in names] == ["c1", "v1", "m1", "a=b", "s1"]


def test_offers() -> None:
    """An offer needs an endpoint's name; TGI takes messages or prompts, as it was started."""
    lmi, chat, raw = offer("llama"), offer("llama", dialect="tgi"), offer("llama", dialect="tgi", messages_api=False)
    assert isinstance(lmi, Offer)
    assert isinstance(chat, Offer)
    assert isinstance(raw, Offer)
    features = [offered.capabilities.features for offered in (lmi, chat, raw) if offered.capabilities]
    assert {"chat", "generate"} <= features[0]
    assert "generate" not in features[1]
    assert features[2] == {"generate", "astream"}
    assert [isinstance(offer(name), Unavailable) for name in (None, "scout", "a/b")] == [True] * 3
    assert isinstance(offer(None, endpoint_name="llama"), Offer)
    assert isinstance(offer("llama", dialect="x"), Unavailable)


def test_bedrocks_api_keys_are_not_sent_to_sagemaker(lmi: FakeSageMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Bedrock key in the environment is ignored, and one in code is refused."""
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "ABSKexample")
    with make_client(lmi, "llama") as client:
        client.chat("hi")
    assert lmi.requests[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 ")
    endpoint = Endpoint(url=lmi.url, api_key=SecretStr("ABSKexample"))
    assert isinstance(SageMakerBackend().offer(Need(model="llama", endpoint=endpoint), LAPTOP), Unavailable)


@pytest.mark.parametrize(
    ("status", "message", "kind", "retryable"),
    [
        (400, '{"error": "Input validation error: inputs must have less than 4096"}', ContextLengthError, False),
        (424, '{"code":424,"error":"This model\'s maximum context length is 4096 tokens"}', ContextLengthError, False),
        (400, '{"error": {"message": "bad temperature"}}', APIStatusError, False),
        (500, "worker died", APIStatusError, True),
        (503, "queue full", OverloadedError, True),
        (504, "", APITimeoutError, False),
    ],
)  # fmt: skip
def test_a_containers_error_is_unwrapped(
    lmi: FakeSageMaker, status: int, message: str, kind: type[Llama4Error], retryable: bool
) -> None:
    """The error is that of the container's status and words within ModelError."""
    lmi.script.extend([lmi.fail(status, message)] * 3)
    with make_client(lmi, "llama") as client, pytest.raises(kind) as caught:
        client.chat("hi")
    assert len(lmi.requests) == (3 if retryable else 1)
    if isinstance(caught.value, APIError):
        assert "CloudWatch" in str(caught.value.hint)
        assert (caught.value.status, caught.value.request_id) == (status, "fake-2")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"token": {"text": ""}, "generated_text": "", "details": {"finish_reason": "error"}}, APIStatusError),
        ({"error": "CUDA out of memory", "code": 424}, APIStatusError),
        ({"error": {"message": "maximum context length is 4096 tokens", "code": 400}}, ContextLengthError),
        ({"choices": [{"delta": {}, "finish_reason": "abort"}]}, APIError),
    ],
    ids=["finish_reason", "error", "error object", "unknown end"],
)
def test_errors_within_an_answer(lmi: FakeSageMaker, line: dict[str, Any], kind: type[Llama4Error]) -> None:
    """After the first token they end the answer, and the request is not repeated."""
    stream = json.dumps({"token": {"text": "one"}}) + "\n" + json.dumps(line) + "\n"
    lmi.script.append(lambda handler, request: lmi.send(handler, stream.encode()))
    with make_client(lmi, "llama") as client, pytest.raises(kind):
        client.generate("hi")
    assert len(lmi.requests) == 1


def failing(code: str) -> bytes:
    """SageMaker's exception within a stream."""
    headers = {":exception-type": "ModelStreamError", ":content-type": "application/json", ":message-type": "exception"}
    return frame(headers, json.dumps({"Message": "no more", "ErrorCode": code}).encode())


@pytest.mark.parametrize(
    ("code", "kind"), [("ModelInvocationTimeExceeded", APITimeoutError), ("StreamBroken", APIStatusError)]
)
def test_exceptions_within_a_stream(lmi: FakeSageMaker, code: str, kind: type[Llama4Error]) -> None:
    """Their type follows from their own code."""
    first_part = part(b'{"token": {"text": "one"}}\n')
    lmi.script.append(lambda handler, request: handler.stream([first_part, failing(code)]))
    with make_client(lmi, "llama") as client, pytest.raises(kind, match="no more"):
        client.generate("hi")


@pytest.mark.parametrize("end", [b"", b'{"token": {"te'], ids=["between lines", "within a line"])
def test_a_stream_without_its_end_is_interrupted(lmi: FakeSageMaker, end: bytes) -> None:
    """An answer without a finish reason is incomplete."""
    lmi.script.append(lambda handler, request: lmi.send(handler, b'{"token": {"text": "one"}}\n' + end))
    with make_client(lmi, "llama") as client, pytest.raises(StreamInterruptedError) as caught:
        client.generate("hi")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "one"


@pytest.mark.parametrize(
    "stream",
    [
        b'[{"generated_text": "all", "details": {"finish_reason": "eos_token", "generated_tokens": 1}}]',
        b'{"generated_text": "all", "details": {"finish_reason": "stop_sequence", "generated_tokens": 1}}\n',
        b': comment\n\nevent: x\ndata: {"token": {"text": "all"}}\n\ndata: {"token": {"text": "</s>", "special": true},'
        b'"generated_text": "all", "details": {"finish_reason": "eos_token", "generated_tokens": 1}}\n\n',
        b'{"choices": [{"message": {"content": "all"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}',
    ],
    ids=["list", "whole", "events", "whole chat"],
)
def test_other_forms_of_the_same_answer(lmi: FakeSageMaker, stream: bytes) -> None:
    """Other versions of containers write it differently."""
    lmi.script.append(lambda handler, request: lmi.send(handler, stream))
    with make_client(lmi, "llama") as client:
        answer = client.generate("hi")
    assert (answer.text, answer.finish_reason, answer.usage.output_tokens) == ("all", "stop", 1)


def test_wrong_keys_and_names(lmi: FakeSageMaker) -> None:
    """A wrong secret, a missing permission and an unknown endpoint are errors of their own."""
    with make_client(lmi, "llama", api_key=f"{ACCESS_KEY}:wrong") as client, pytest.raises(AuthenticationError):
        client.chat("hi")
    lmi.script.append(lambda handler, request: handler.send_refusal(403, "AccessDeniedException", "not authorized"))
    with make_client(lmi, "llama") as client, pytest.raises(PermissionDeniedError) as denied:
        client.chat("hi")
    assert "sagemaker:InvokeEndpoint" in str(denied.value.hint)
    with make_client(lmi, "other") as client, pytest.raises(APIStatusError, match="not found"):
        client.chat("hi")


def test_options_of_other_dialects_are_refused(lmi: FakeSageMaker) -> None:
    """The offer lacks the options that TGI's chats lack."""
    with make_client(lmi, "llama", options={"dialect": "tgi"}) as client, pytest.raises(UnsupportedFeatureError):
        client.chat("hi", top_k=5)
    assert not lmi.requests


def test_concurrent_requests(lmi: FakeSageMaker) -> None:
    """Requests in one event loop get their own answers."""

    async def run() -> list[str]:
        async with make_async_client(lmi, "llama") as client:
            answers = await asyncio.gather(*(client.chat(f"number {n} of many") for n in range(10)))
        return [answer.text for answer in answers]

    assert asyncio.run(run()) == [f"number {n} of many" for n in range(10)]
