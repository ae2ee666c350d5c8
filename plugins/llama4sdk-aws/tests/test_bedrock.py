"""Bedrock: what is sent, what comes of it, and what is refused before anything is sent."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import pytest
from llama4sdk_aws.bedrock import BedrockBackend

from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.errors import (
    APIStatusError,
    ContextLengthError,
    InvalidRequestError,
    Llama4Error,
    NoBackendError,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from llama4sdk.messages import ImagePart, Message, TextPart, ToolCall
from llama4sdk.remote.endpoint import Endpoint
from llama4sdk.requests import Request
from llama4sdk.testing.machines import LAPTOP

from .asking import QUICK, WEATHER, ask, ask_async
from .bedrock import COHERE, TITAN, FakeBedrock, converse_frames
from .test_boto3 import PNG
from .test_frames import FAILED, THROTTLED

pytestmark = pytest.mark.usefixtures("keys")

CLAUDE = "anthropic.any-v1:0"
USAGE = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}


def offer(model: str | None = "scout", **settings: Any) -> Offer | Unavailable:
    """What is offered for a model."""
    return BedrockBackend().offer(Need(model=model, **settings), LAPTOP)


def picture(data: bytes) -> Message:
    """A message with an image."""
    return Message(role="user", content=(TextPart(text="What is this?"), ImagePart(data=data)))


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


JPEG = b"\xff\xd8\xff\xe0" + struct.pack(">H", 4) + b"ab\xff\xc0" + struct.pack(">HBHH", 17, 8, 9000, 10)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (picture(b"BM not taken"), "PNG, JPEG, GIF and WebP"),
        (picture(PNG + bytes(4 * 2**20)), "bytes"),
        (picture(PNG[:16] + struct.pack(">II", 9000, 10) + PNG[24:]), "9000 x 10 pixels"),
        (picture(b"GIF89a" + struct.pack("<HH", 10, 8001)), "10 x 8001"),
        (picture(JPEG), "10 x 9000"),
        (picture(b"RIFF0000WEBPVP8X" + bytes(8) + (8999).to_bytes(3, "little") + bytes(3)), "9000 x 1"),
        (Message(role="user", content=(ImagePart(data=PNG),) * 21), "20 images"),
        (Message(role="user", content=(ImagePart(url="https://example.com/a.png"),)), "bytes only"),
        (Message(role="assistant", content="hi"), "begins with an answer"),
        (Message(role="user", content="   "), "nothing to answer"),
        (Message(role="tool", content="20"), "which call"),
        (Message(role="assistant", tool_calls=(ToolCall(id="1", name="a", arguments="[1"),)), "JSON object"),
    ],
)
def test_what_bedrock_would_refuse_is_not_sent(bedrock: FakeBedrock, message: Message, match: str) -> None:
    """Images too many, too large or of other kinds; messages no model could answer."""
    with ask(bedrock) as client, pytest.raises(InvalidRequestError, match=match) as caught:
        client.chat([message])
    assert caught.value.hint
    assert not bedrock.requests


def test_late_system_messages_are_not_sent(bedrock: FakeBedrock) -> None:
    """Bedrock has one place for them, in front."""
    late = [Message(role="user", content="a"), Message(role="system", content="b"), Message(role="user", content="c")]
    with ask(bedrock) as client, pytest.raises(InvalidRequestError, match="in front"):
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
    """Before anything is sent."""
    with ask(bedrock) as client, pytest.raises(kind):
        client.chat("hi", **options)
    assert not bedrock.requests


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


@pytest.mark.parametrize(
    ("words", "limit"),
    [(3000, 2048), (9000, 2048)],
    ids=["maximum context length is N", "Input is too long"],
)
def test_a_prompt_that_is_too_long(bedrock: FakeBedrock, words: int, limit: int) -> None:
    """Both of Bedrock's texts are the same error."""
    with ask(bedrock, context_length=2048) as client, pytest.raises(ContextLengthError) as caught:
        client.chat("a " * words)
    assert caught.value.limit == limit


@pytest.mark.parametrize("region", ["eu-west-1", "ap-southeast-2", "us-gov-west-1"])
def test_elsewhere_llama_4_is_refused_at_once(region: str) -> None:
    """Only regions of the United States have it; the refusal lists them."""
    found = offer(endpoint=Endpoint(options={"region": region}))
    assert isinstance(found, Unavailable)
    assert "us-east-1, us-east-2, us-west-1, us-west-2" in found.reason


def test_what_is_offered() -> None:
    """Limits are those of the registry; a name that Bedrock cannot have is refused, a foreign one passes."""
    scout, maverick, other = offer(), offer("maverick"), offer("mistral.any-v1:0", context_length=100_000)
    assert isinstance(scout, Offer)
    assert isinstance(maverick, Offer)
    assert isinstance(other, Offer)
    assert scout.context_length > 2_000_000
    assert maverick.context_length == 1_048_576
    assert other.context_length == 100_000
    assert "us.meta.llama4-scout-17b-instruct-v1:0 in us-east-1" in scout.reason
    assert other.capabilities is not None
    assert "generate" not in other.capabilities.features
    for model in ("demo", "meta-llama/nothing", "Scout!"):
        assert isinstance(offer(model), Unavailable)
    assert isinstance(offer("maverick", context_length=2_000_000), Unavailable)


def test_without_region_or_credentials_nothing_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing is named."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    missing = offer()
    assert isinstance(missing, Unavailable)
    assert "AWS_BEARER_TOKEN_BEDROCK" in str(missing.fix)
    monkeypatch.delenv("AWS_REGION")
    missing = offer()
    assert isinstance(missing, Unavailable)
    assert "AWS_REGION" in str(missing.fix)


def test_unknown_options_are_refused() -> None:
    """With the nearest that exists, and never with what was passed."""
    with pytest.raises(NoBackendError, match="guardrail_id") as caught:
        ask_nobody({"guardrail": "AKIA-secret"})
    assert "AKIA-secret" not in str(caught.value)


def ask_nobody(options: dict[str, Any]) -> None:
    """Plan with these options."""
    from llama4sdk.client import Client

    Client("scout", backend="bedrock", endpoint=Endpoint(options=options), hardware=LAPTOP).plan()


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
