"""Bedrock: what is sent, and what comes of it."""

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

from .clients import WEATHER, ask, ask_async, picture
from .fake_bedrock import COHERE, TITAN, FakeBedrock, converse_frames
from .test_boto3 import PNG

pytestmark = pytest.mark.usefixtures("keys")

CLAUDE = "anthropic.any-v1:0"
USAGE = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}


def test_a_chat_is_streamed_from_the_profile(bedrock: FakeBedrock) -> None:
    """Scout's base id is reached by its inference profile; everything of a request arrives as Converse has it."""
    with ask(bedrock, "meta.llama4-scout-17b-instruct-v1:0") as client:
        answer = client.chat(
            [Message(role="system", content="Be kind."), Message(role="user", content="hi there")],
            max_tokens=9,
            temperature=0.5,
            top_p=0.9,
            stop="!",
        )
    assert (answer.text, answer.finish_reason) == ("hi there", "stop")
    assert answer.usage.input_tokens == 5
    (seen,) = bedrock.requests
    assert seen.path == "/model/us.meta.llama4-scout-17b-instruct-v1%3A0/converse-stream"
    assert seen.json == {
        "messages": [{"role": "user", "content": [{"text": "hi there"}]}],
        "system": [{"text": "Be kind."}],
        "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["!"]},
    }


def test_the_price_of_an_answer_is_known(bedrock: FakeBedrock) -> None:
    """A listed model's answers say what they cost, however the model was named."""
    with ask(bedrock) as one, ask(bedrock, "us.meta.llama4-scout-17b-instruct-v1:0") as other:
        first, second = (client.chat("hi there").usage.cost for client in (one, other))
    assert first is not None
    assert first > 0
    assert second == first


def test_arns_are_one_label(bedrock: FakeBedrock) -> None:
    """An ARN goes into the path as it is, escaped, and its signature holds."""
    arn = "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.meta.llama4-scout-17b-instruct-v1:0"
    with ask(bedrock, arn) as client:
        assert client.chat("hi").text == "hi"
    assert bedrock.requests[0].path.startswith("/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tools_go_to_converse_at_once(bedrock: FakeBedrock, kind: str) -> None:
    """Llama 4 streams no calls on Bedrock: they are asked for whole, and come as events all the same."""
    if kind == "sync":
        with ask(bedrock) as client:
            answer = client.chat("Is it warm in Lima?", tools=[WEATHER], stream=True).completion()
    else:

        async def run() -> Any:
            async with ask_async(bedrock) as client:
                return await client.chat("Is it warm in Lima?", tools=[WEATHER])

        answer = asyncio.run(run())
    assert answer.finish_reason == "tool_calls"
    assert answer.text == "Let me look."
    assert [(call.id, call.name, call.parsed()) for call in answer.tool_calls] == [
        ("tooluse_1", "weather", {"city": "Lima"})
    ]
    (seen,) = bedrock.requests
    assert seen.operation == "converse"
    assert "toolChoice" not in seen.json["toolConfig"]


def test_results_go_back(bedrock: FakeBedrock) -> None:
    """A call and its result are told in one user turn; foreign ids are made fit, the same on both sides."""
    call = ToolCall(id="call/1?", name="weather", arguments='{"city":"Lima"}')
    with ask(bedrock) as client:
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
    """``run_tools`` goes through: a call, its result, an answer."""

    def weather(city: str) -> str:
        """The weather of a city."""
        return f"It is warm in {city}."

    with ask(bedrock) as client:
        assert "warm in Lima" in client.run_tools("How is it?", tools=[weather]).text


def test_other_models_stream_calls_until_they_refuse(bedrock: FakeBedrock) -> None:
    """Where nobody knows whether calls are streamed, it is tried; the refusal is remembered."""
    refusal = "This model doesn't support tool use in streaming mode."
    with ask(bedrock, CLAUDE) as client:
        assert client.chat("a", tools=[WEATHER]).tool_calls[0].parsed() == {"city": "Lima"}
        bedrock.script.append(lambda handler, seen: handler.refuse(400, "ValidationException", refusal))
        answer = client.chat("b", tools=[WEATHER])
        assert answer.tool_calls[0].parsed() == {"city": "Lima"}
        assert len(answer.attempts) == 2
        client.chat("c", tools=[WEATHER])
        client.chat("d")
    operations = [seen.operation for seen in bedrock.requests]
    assert operations == ["converse-stream", "converse-stream", "converse", "converse", "converse-stream"]


@pytest.mark.parametrize(("chat", "whole"), [(True, "converse"), (False, "invoke")])
def test_a_model_that_does_not_stream_answers_whole(bedrock: FakeBedrock, chat: bool, whole: str) -> None:
    """After the refusal of a stream the same is asked for in one piece, and so is everything later."""
    refusal = "The model is unsupported: it does not support streaming."
    bedrock.script.append(lambda handler, seen: handler.refuse(400, "ValidationException", refusal))
    with ask(bedrock) as client:
        texts = [(client.chat("hi you") if chat else client.generate("hi you")).text for _ in range(2)]
    assert texts == ["hi you", "hi you"]
    assert [seen.operation for seen in bedrock.requests][1:] == [whole, whole]


def test_stop_strings_that_a_model_does_not_know_are_looked_for_here(bedrock: FakeBedrock) -> None:
    """The answer ends before them all the same."""
    bedrock.stop_sequences = False
    with ask(bedrock) as client:
        answer = client.chat("one two STOP three", stop="STOP")
    assert (answer.text, answer.finish_reason) == ("one two ", "stop")
    assert "inferenceConfig" not in bedrock.requests[1].json


def test_base_ids_of_others_are_asked_by_profile_once_refused(bedrock: FakeBedrock) -> None:
    """A refusal of on-demand throughput leads to the region's inference profile, and stays."""
    with ask(bedrock, "meta.llama3-3-70b-instruct-v1:0") as client:
        assert [client.chat("hi").text for _ in range(2)] == ["hi", "hi"]
    models = [seen.path.split("/")[2] for seen in bedrock.requests]
    base = "meta.llama3-3-70b-instruct-v1%3A0"
    assert models == [base, f"us.{base}", f"us.{base}"]


def test_raw_prompts_are_continued_as_they_are(bedrock: FakeBedrock) -> None:
    """The prompt reaches InvokeModel untouched, with the longest answer there is."""
    with ask(bedrock) as client:
        answer = client.generate("<|begin_of_text|>Once upon", temperature=0)
        short = client.generate("Once upon a time", max_tokens=2, stop="zzz")
    assert (answer.text, answer.finish_reason, answer.usage.input_tokens) == ("<|begin_of_text|>Once upon", "stop", 2)
    assert (short.text, short.finish_reason, short.usage.output_tokens) == ("Once upon", "length", 2)
    first, second = bedrock.requests
    assert first.operation == "invoke-with-response-stream"
    assert first.json == {"prompt": "<|begin_of_text|>Once upon", "max_gen_len": 8192, "temperature": 0.0}
    assert second.headers["x-amzn-bedrock-accept"] == "application/json"


def test_what_bedrock_does_besides(bedrock: FakeBedrock) -> None:
    """Guardrails, tiers, latency and metadata go into the body of Converse, and into headers of InvokeModel."""
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
    with ask(bedrock, options=options) as client:
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
    """What it says instead is the text; the reason tells."""
    frames = converse_frames([{"text": "I may not."}], "guardrail_intervened", USAGE)
    bedrock.script.append(lambda handler, seen: handler.stream(frames))
    with ask(bedrock) as client:
        answer = client.chat("hi")
    assert (answer.text, answer.finish_reason) == ("I may not.", "content_filter")


def test_an_image_is_sent_in_bytes(bedrock: FakeBedrock) -> None:
    """By what its bytes are, not by what it is said to be."""
    with ask(bedrock) as client:
        client.chat(picture(PNG))
    block = bedrock.requests[0].json["messages"][0]["content"][1]["image"]
    assert block["format"] == "png"
    assert base64.b64decode(block["source"]["bytes"]) == PNG


def test_tokens_are_counted_of_the_model(bedrock: FakeBedrock) -> None:
    """CountTokens knows base ids only."""
    with ask(bedrock) as client:
        assert client.count_tokens("one two three") == 4
        assert client._session.engine().count_tokens(Request(prompt="one two three")) == 3
        bedrock.counts = False
        with pytest.raises(UnsupportedFeatureError) as caught:
            client.count_tokens("one two three")
    assert "doesn't support counting" in str(caught.value.hint)
    assert bedrock.requests[0].path == "/model/meta.llama4-scout-17b-instruct-v1%3A0/count-tokens"


def test_titan_embeds_one_text_a_call(bedrock: FakeBedrock) -> None:
    """Vectors come in order, whatever order the calls end in; the tokens of all are added."""
    with ask(bedrock, TITAN, options={"dimensions": 256}) as client:
        found = client.embed([f"text {n}" for n in range(20)])
        one = client.embed("text 7").vectors[0]
    assert found.dimensions == 256
    assert found.vectors[7] == one
    assert found.usage.input_tokens == 40
    assert len(bedrock.requests) == 21


def test_cohere_embeds_96_texts_a_call(bedrock: FakeBedrock) -> None:
    """The tokens are in a header, what the vectors are for in the body."""
    with ask(bedrock, COHERE, options={"input_type": "search_query"}) as client:
        found = client.embed([f"text {n}" for n in range(100)], normalize=False)
        with pytest.raises(UnsupportedFeatureError):
            client.embed("a", pooling="last")
        with pytest.raises(UnsupportedFeatureError):
            client.chat("hi")
    assert len(found.vectors) == 100
    assert found.usage.input_tokens == 200
    sizes = sorted(len(seen.json["texts"]) for seen in bedrock.requests)
    assert (sizes, bedrock.requests[0].json["input_type"]) == ([4, 96], "search_query")


def test_a_base_id_that_embeds_by_profile_only(bedrock: FakeBedrock) -> None:
    """The refusal leads to the profile, for embeddings as for chats."""
    with ask(bedrock, "cohere.embed-v4:0", options={"dimensions": 256}) as client:
        for _ in range(2):
            assert len(client.embed("hi").vectors) == 1
    models = [seen.path.split("/")[2] for seen in bedrock.requests]
    assert models[-1] == "us.cohere.embed-v4%3A0"
    assert models.count("us.cohere.embed-v4%3A0") == 2
    assert bedrock.requests[-1].json["output_dimension"] == 256
