"""Bedrock: requests and answers."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest

from llama4sdk.errors import (
    UnsupportedFeatureError,
)
from llama4sdk.messages import Message, ToolCall
from llama4sdk.requests import Request

from .clients import WEATHER, image_message, make_async_client, make_client
from .fake_bedrock import COHERE, TITAN, FakeBedrock, converse_frames
from .test_boto3 import PNG

pytestmark = pytest.mark.usefixtures("keys")

CLAUDE = "anthropic.any-v1:0"
USAGE = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}


def test_a_chat_is_streamed_from_the_profile(bedrock: FakeBedrock) -> None:
    """Scout's base id is sent as its inference profile, and the request in Converse's form."""
    with make_client(bedrock, "meta.llama4-scout-17b-instruct-v1:0") as client:
        answer = client.chat(
            [Message(role="system", content="Be kind."), Message(role="user", content="hi there")],
            max_tokens=9,
            temperature=0.5,
            top_p=0.9,
            stop="!",
        )
    assert (answer.text, answer.finish_reason) == ("hi there", "stop")
    assert answer.usage.input_tokens == 5
    (request,) = bedrock.requests
    assert request.path == "/model/us.meta.llama4-scout-17b-instruct-v1%3A0/converse-stream"
    assert request.json == {
        "messages": [{"role": "user", "content": [{"text": "hi there"}]}],
        "system": [{"text": "Be kind."}],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["!"]},
    }


def test_the_price_of_an_answer_is_known(bedrock: FakeBedrock) -> None:
    """A listed model's answers say what they cost, however the model was named."""
    with make_client(bedrock) as by_name, make_client(bedrock, "us.meta.llama4-scout-17b-instruct-v1:0") as by_profile:
        first, second = (client.chat("hi there").usage.cost for client in (by_name, by_profile))
    assert first is not None
    assert first > 0
    assert second == first


def test_arns_are_one_path_segment(bedrock: FakeBedrock) -> None:
    """An ARN is escaped in the path, and the signature is valid."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama4-scout-17b-instruct-v1:0"
    with make_client(bedrock, arn) as client:
        assert client.chat("hi").text == "hi"
    assert bedrock.requests[0].path.startswith("/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_requests_with_tools_use_converse(bedrock: FakeBedrock, kind: str) -> None:
    """Llama 4 does not stream calls on Bedrock: the whole answer is requested, and read as events."""
    if kind == "sync":
        with make_client(bedrock) as client:
            answer = client.chat("Is it warm in Lima?", tools=[WEATHER], stream=True).completion()
    else:

        async def run() -> Any:
            async with make_async_client(bedrock) as client:
                return await client.chat("Is it warm in Lima?", tools=[WEATHER])

        answer = asyncio.run(run())
    assert answer.finish_reason == "tool_calls"
    assert answer.text == "Let me look."
    assert [(call.id, call.name, call.parsed()) for call in answer.tool_calls] == [
        ("tooluse_1", "weather", {"city": "Lima"})
    ]
    (request,) = bedrock.requests
    assert request.operation == "converse"
    assert "toolChoice" not in request.json["toolConfig"]


def test_results_are_sent_back(bedrock: FakeBedrock) -> None:
    """Results join the next user message; other endpoints' ids are converted, the same on both sides."""
    call = ToolCall(id="call/1?", name="weather", arguments='{"city":"Lima"}')
    with make_client(bedrock) as client:
        answer = client.chat(
            [
                Message(role="user", content="Is it warm?"),
                Message(role="assistant", tool_calls=(call,)),
                Message(role="tool", tool_call_id="call/1?", content="20 °C"),
                Message(role="user", content="And now?"),
            ]
        )
    assert "20 °C" in answer.text
    body = bedrock.requests[0].json
    use = body["messages"][1]["content"][0]["toolUse"]
    result, question = body["messages"][2]["content"]
    assert result["toolResult"]["toolUseId"] == use["toolUseId"] != "call/1?"
    assert question == {"text": "And now?"}
    assert body["toolConfig"]["tools"][0]["toolSpec"]["name"] == "weather"


def test_functions_are_called(bedrock: FakeBedrock) -> None:
    """``run_tools`` sends a call's result and returns the answer."""

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"It is warm in {city}."

    with make_client(bedrock) as client:
        assert "warm in Lima" in client.run_tools("How is it?", tools=[weather]).text


def test_other_models_stream_calls_until_they_refuse(bedrock: FakeBedrock) -> None:
    """Calls are streamed until the model refuses; the refusal is remembered."""
    refusal = "This model doesn't support tool use in streaming mode."
    with make_client(bedrock, CLAUDE) as client:
        assert client.chat("a", tools=[WEATHER]).tool_calls[0].parsed() == {"city": "Lima"}
        bedrock.script.append(lambda handler, request: handler.send_refusal(400, "ValidationException", refusal))
        answer = client.chat("b", tools=[WEATHER])
        assert answer.tool_calls[0].parsed() == {"city": "Lima"}
        assert len(answer.attempts) == 2
        client.chat("c", tools=[WEATHER])
        client.chat("d")
    operations = [request.operation for request in bedrock.requests]
    assert operations == ["converse-stream", "converse-stream", "converse", "converse", "converse-stream"]


@pytest.mark.parametrize(("chat", "operation"), [(True, "converse"), (False, "invoke")])
def test_a_model_that_does_not_stream_gives_whole_answers(bedrock: FakeBedrock, chat: bool, operation: str) -> None:
    """After the refusal of a stream, this request and all later ones ask for whole answers."""
    refusal = "The model is unsupported: it does not support streaming."
    bedrock.script.append(lambda handler, request: handler.send_refusal(400, "ValidationException", refusal))
    with make_client(bedrock) as client:
        texts = [(client.chat("hi you") if chat else client.generate("hi you")).text for _ in range(2)]
    assert texts == ["hi you", "hi you"]
    assert [request.operation for request in bedrock.requests][1:] == [operation, operation]


def test_stop_strings_work_with_models_that_refuse_them(bedrock: FakeBedrock) -> None:
    """The reader ends the answer before them."""
    bedrock.stop_sequences = False
    with make_client(bedrock) as client:
        answer = client.chat("one two STOP three", stop="STOP")
    assert (answer.text, answer.finish_reason) == ("one two ", "stop")
    assert "inferenceConfig" not in bedrock.requests[1].json


def test_a_refused_base_id_is_replaced_by_its_profile(bedrock: FakeBedrock) -> None:
    """After a refusal of on-demand throughput all requests use the region's inference profile."""
    with make_client(bedrock, "meta.llama3-3-70b-instruct-v1:0") as client:
        assert [client.chat("hi").text for _ in range(2)] == ["hi", "hi"]
    models = [request.path.split("/")[2] for request in bedrock.requests]
    base = "meta.llama3-3-70b-instruct-v1%3A0"
    assert models == [base, f"us.{base}", f"us.{base}"]


def test_raw_prompts_are_continued_unchanged(bedrock: FakeBedrock) -> None:
    """InvokeModel gets the unchanged prompt, and the model's longest answer as its limit."""
    with make_client(bedrock) as client:
        answer = client.generate("<|begin_of_text|>Once upon", temperature=0)
        short = client.generate("Once upon a time", max_tokens=2, stop="zzz")
    assert (answer.text, answer.finish_reason, answer.usage.input_tokens) == ("<|begin_of_text|>Once upon", "stop", 2)
    assert (short.text, short.finish_reason, short.usage.output_tokens) == ("Once upon", "length", 2)
    first, second = bedrock.requests
    assert first.operation == "invoke-with-response-stream"
    assert first.json == {"prompt": "<|begin_of_text|>Once upon", "max_gen_len": 8192, "temperature": 0.0}
    assert second.headers["x-amzn-bedrock-accept"] == "application/json"


def test_bedrocks_own_options(bedrock: FakeBedrock) -> None:
    """Guardrails, tiers, latency and metadata are in Converse's body and in InvokeModel's headers."""
    options = {
        "guardrail_id": "g1",
        "guardrail_version": "2",
        "trace": "enabled",
        "guardrail_stream": "async",
        "latency": "optimized",
        "service_tier": "flex",
        "request_metadata": {"team": "a"},
        "additional_fields": {"x": 1},
    }
    with make_client(bedrock, options=options) as client:
        client.chat("hi")
        client.generate("hi")
    body, headers = bedrock.requests[0].json, bedrock.requests[1].headers
    assert body["guardrailConfig"] == {
        "guardrailIdentifier": "g1",
        "guardrailVersion": "2",
        "trace": "enabled",
        "streamProcessingMode": "async",
    }
    assert body["performanceConfig"] == {"latency": "optimized"}
    assert body["serviceTier"] == {"type": "flex"}
    assert (body["requestMetadata"], body["additionalModelRequestFields"]) == ({"team": "a"}, {"x": 1})
    assert headers["x-amzn-bedrock-guardrailidentifier"] == "g1"
    assert headers["x-amzn-bedrock-trace"] == "ENABLED"
    assert headers["x-amzn-bedrock-service-tier"] == "flex"
    assert headers["x-amzn-bedrock-request-metadata"] == '{"team": "a"}'


def test_a_guardrail_ends_an_answer(bedrock: FakeBedrock) -> None:
    """Its message is the text, and the finish reason is content_filter."""
    frames = converse_frames([{"text": "I may not."}], "guardrail_intervened", USAGE)
    bedrock.script.append(lambda handler, request: handler.stream(frames))
    with make_client(bedrock) as client:
        answer = client.chat("hi")
    assert (answer.text, answer.finish_reason) == ("I may not.", "content_filter")


def test_an_image_is_sent_as_bytes(bedrock: FakeBedrock) -> None:
    """Its format is that of its first bytes."""
    with make_client(bedrock) as client:
        client.chat(image_message(PNG))
    block = bedrock.requests[0].json["messages"][0]["content"][1]["image"]
    assert block["format"] == "png"
    assert base64.b64decode(block["source"]["bytes"]) == PNG


def test_tokens_are_counted(bedrock: FakeBedrock) -> None:
    """CountTokens takes base ids, and few models have it."""
    with make_client(bedrock) as client:
        assert client.count_tokens("one two three") == 4
        assert client._session.engine().count_tokens(Request(prompt="one two three")) == 3
        bedrock.counts = False
        with pytest.raises(UnsupportedFeatureError) as caught:
            client.count_tokens("one two three")
    assert "doesn't support counting" in str(caught.value.hint)
    assert bedrock.requests[0].path == "/model/meta.llama4-scout-17b-instruct-v1%3A0/count-tokens"


def test_titan_embeds_one_text_a_call(bedrock: FakeBedrock) -> None:
    """Vectors keep the order of the texts, and the tokens of all calls are added."""
    with make_client(bedrock, TITAN, options={"dimensions": 256}) as client:
        embeddings = client.embed([f"text {n}" for n in range(20)])
        vector = client.embed("text 7").vectors[0]
    assert embeddings.dimensions == 256
    assert embeddings.vectors[7] == vector
    assert embeddings.usage.input_tokens == 40
    assert len(bedrock.requests) == 21


def test_cohere_embeds_96_texts_a_call(bedrock: FakeBedrock) -> None:
    """The tokens are in a header, the vectors' use in the body."""
    with make_client(bedrock, COHERE, options={"input_type": "search_query"}) as client:
        embeddings = client.embed([f"text {n}" for n in range(100)], normalize=False)
        with pytest.raises(UnsupportedFeatureError):
            client.embed("a", pooling="last")
        with pytest.raises(UnsupportedFeatureError):
            client.chat("hi")
    assert len(embeddings.vectors) == 100
    assert embeddings.usage.input_tokens == 200
    sizes = sorted(len(request.json["texts"]) for request in bedrock.requests)
    assert (sizes, bedrock.requests[0].json["input_type"]) == ([4, 96], "search_query")


def test_an_embedding_model_with_a_profile_only(bedrock: FakeBedrock) -> None:
    """The refusal leads to the profile, as with chats."""
    with make_client(bedrock, "cohere.embed-v4:0", options={"dimensions": 256}) as client:
        for _ in range(2):
            assert len(client.embed("hi").vectors) == 1
    models = [request.path.split("/")[2] for request in bedrock.requests]
    assert models[-1] == "us.cohere.embed-v4%3A0"
    assert models.count("us.cohere.embed-v4%3A0") == 2
    assert bedrock.requests[-1].json["output_dimension"] == 256
