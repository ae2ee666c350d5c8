"""Bodies of requests: each endpoint's own fields, and refusals before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llama4sdk_openai.credentials import ResolvedEndpoint
from llama4sdk_openai.dialect import OpenAIDialect
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import load_profiles

from llama4sdk.catalog import endpoints
from llama4sdk.constraints import Constraint, Grammar, JsonSchema, Regex
from llama4sdk.errors import ContextLengthError, InvalidRequestError, UnsupportedFeatureError
from llama4sdk.events import ToolCallDelta
from llama4sdk.messages import ImagePart, Message, TextPart, ToolCall, VideoPart
from llama4sdk.remote.dialect import Head
from llama4sdk.requests import EmbedRequest, Request, SamplingParams, Tool

PNG = b"\x89PNG\r\n\x1a\n and so on"
TOOL = Tool(name="now", description="The time.", parameters={"type": "object", "properties": {}})
OTHER = Tool(name="then")
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
ACCESS = ResolvedEndpoint("https://host/v1", headers={"Authorization": "Bearer k"}, secrets=("k",))


def dialect(name: str, model: str = "m", options: Options | None = None) -> OpenAIDialect:
    return OpenAIDialect(load_profiles()[name], model, 1000, ACCESS, options or Options(), endpoints.find(name, model))


def sent(name: str, request: Request, *tried: str, model: str = "m", options: Options | None = None) -> dict[str, Any]:
    """The body of the request."""
    call, _ = dialect(name, model, options).build_call(request, frozenset(tried))
    body = json.loads(call.content)
    assert isinstance(body, dict)
    return body


def chat(text: str = "Hi", **fields: Any) -> Request:
    return Request.model_validate({"messages": [Message(role="user", content=text)], **fields})


@pytest.mark.parametrize("name", load_profiles())
def test_every_profile_streams_a_chat(name: str) -> None:
    """A chat is a stream, with the model's name and the unchanged text."""
    body = sent(name, chat("Grüße 🦙"))
    assert (body["model"], body["stream"]) == ("m", True)
    assert body["messages"] == [{"role": "user", "content": "Grüße 🦙"}]


def test_usage_is_requested_where_it_must_be() -> None:
    """Only Together always counts; remedies leave out the field or the stream."""
    assert sent("vllm-server", chat())["stream_options"] == {"include_usage": True}
    assert "stream_options" not in sent("together", chat())
    assert "stream_options" not in sent("openai", chat(), "no_usage")
    assert sent("openai", chat(), "unary")["stream"] is False


def test_no_endpoint_shortens_a_prompt_silently() -> None:
    """Endpoints that would cut a long prompt are told to refuse it."""
    for name in ("together", "fireworks"):
        assert sent(name, chat())["context_length_exceeded_behavior"] == "error"
    assert sent("openrouter", chat())["transforms"] == []


def test_openrouter_only_uses_hosts_that_honour_all_parameters() -> None:
    """The rule stays when the caller orders the hosts."""
    options = Options(provider={"order": ["deepinfra"]})
    assert sent("openrouter", chat(), options=options)["provider"] == {
        "require_parameters": True,
        "order": ["deepinfra"],
    }


def test_logprobs_are_requested_in_each_dialect() -> None:
    """A flag and a number in chats, one number for raw text and at Together."""
    sampling = SamplingParams(logprobs=3)
    assert sent("vllm-server", chat(sampling=sampling)).items() >= {"logprobs": True, "top_logprobs": 3}.items()
    assert sent("together", chat(sampling=sampling))["logprobs"] == 3
    assert sent("vllm-server", Request(prompt="a", sampling=sampling))["logprobs"] == 3


def test_more_alternatives_than_there_are_is_refused() -> None:
    """Hugging Face and TGI return five at most."""
    with pytest.raises(UnsupportedFeatureError, match="logprobs=6"):
        sent("huggingface", chat(sampling=SamplingParams(logprobs=6)))


def test_llamacpp_has_its_own_option_names() -> None:
    """Its repetition penalty covers the whole context, as the SDK's does."""
    body = sent("llamacpp-server", chat(sampling=SamplingParams(repetition_penalty=1.2)))
    assert (body["repeat_penalty"], body["repeat_last_n"]) == (1.2, -1)
    assert "repetition_penalty" not in body


def test_values_without_effect_are_left_out_where_they_are_refused() -> None:
    """TGI refuses a top_p of 1."""
    assert "top_p" not in sent("tgi", chat(sampling=SamplingParams(top_p=1)))
    assert sent("tgi", chat(sampling=SamplingParams(top_p=0.5)))["top_p"] == 0.5


def test_a_tool_is_demanded_by_name_or_by_being_the_only_one() -> None:
    """LM Studio takes no names: it gets that tool alone, and must call one."""
    request = chat(tools=(TOOL, OTHER), tool_choice="now")
    assert sent("vllm-server", request)["tool_choice"] == {"type": "function", "function": {"name": "now"}}
    body = sent("lmstudio", request)
    assert body["tool_choice"] == "required"
    assert [tool["function"]["name"] for tool in body["tools"]] == ["now"]


def test_llamacpp_gets_the_schema_of_a_call() -> None:
    """It lets a model write text before a required call, so the answer itself must be the call."""
    body = sent("llamacpp-server", chat(tools=(TOOL, OTHER), tool_choice="now"))
    assert body["tool_choice"] == "none"
    assert len(body["tools"]) == 2
    (shape,) = body["json_schema"]["anyOf"]
    assert shape["properties"] == {"name": {"const": "now"}, "arguments": TOOL.parameters}


def test_calls_in_the_text_have_ids_of_their_own() -> None:
    """Ids continue those of the conversation, so that each result has one call to answer."""
    before = Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="now", arguments="{}"),))
    result = Message(role="tool", content="noon", tool_call_id="call_0")
    request = Request(messages=(chat().messages[0], before, result), tools=(TOOL,), tool_choice="now")
    _, reader = dialect("llamacpp-server").build_call(request, frozenset())
    reader.begin(Head(200, {"content-type": "application/json"}))
    body = {"choices": [{"message": {"content": '{"name": "now", "arguments": {}}'}, "finish_reason": "stop"}]}
    events = [*reader.feed(json.dumps(body).encode()), *reader.end()]
    assert [event.id for event in events if isinstance(event, ToolCallDelta)] == ["call_1"]


CONSTRAINT_FIELDS: list[tuple[str, Constraint, dict[str, Any]]] = [
    ("vllm-server", JsonSchema(definition=SCHEMA), {"structured_outputs": {"json": SCHEMA}}),
    ("vllm-server", Regex(pattern="a+"), {"structured_outputs": {"regex": "a+"}}),
    ("vllm-server", Grammar(lark='start: "a"'), {"structured_outputs": {"grammar": 'start: "a"'}}),
    ("sglang", Regex(pattern="a+"), {"regex": "a+"}),
    ("llamacpp-server", JsonSchema(definition=SCHEMA), {"json_schema": SCHEMA}),
    ("tgi", JsonSchema(definition=SCHEMA), {"response_format": {"type": "json", "value": SCHEMA}}),
    (
        "azure",
        JsonSchema(definition=SCHEMA),
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
            }
        },
    ),
]


@pytest.mark.parametrize(("name", "constraint", "expected"), CONSTRAINT_FIELDS)
def test_constraints_are_written_for_each_server(name: str, constraint: Constraint, expected: dict[str, Any]) -> None:
    """A schema, a regular expression and a grammar have fields of their own in each dialect."""
    assert sent(name, chat(constraint=constraint)).items() >= expected.items()


@pytest.mark.parametrize(
    ("name", "constraint"),
    [
        ("llamacpp-server", Regex(pattern="a+")),
        ("llamacpp-server", Grammar(lark='start: "a"')),
        ("sglang", Grammar(lark='start: "a"')),
        ("azure", Regex(pattern="a+")),
    ],
)
def test_constraints_that_a_server_does_not_take_are_refused(name: str, constraint: Constraint) -> None:
    """Nothing is sent without the constraint that was asked for; the hint names what the server takes instead."""
    assert constraint.kind not in load_profiles()[name].capabilities.features
    with pytest.raises(UnsupportedFeatureError, match=constraint.kind) as caught:
        sent(name, chat(constraint=constraint))
    assert "schema=" in (caught.value.hint or "")


def test_constrained_raw_text_is_refused_where_only_chats_can_be() -> None:
    """``response_format`` is a field of chats."""
    with pytest.raises(UnsupportedFeatureError, match="raw text of a given shape"):
        sent("together", Request(prompt="a", constraint=JsonSchema(definition=SCHEMA)))
    body = sent("sglang", Request(prompt="a", constraint=JsonSchema(definition=SCHEMA)))
    assert json.loads(body["json_schema"]) == SCHEMA


def test_raw_text_is_not_cut_after_a_few_tokens() -> None:
    """Without the caller's limit servers get one that surely fits, as a token has at least one byte."""
    assert sent("vllm-server", Request(prompt="abc"))["max_tokens"] == 1000 - 3 - 16
    assert sent("sglang", Request(prompt="é" * 10))["max_tokens"] == 1000 - 20 - 16
    assert "max_tokens" not in sent("llamacpp-server", Request(prompt="abc"))  # which goes on by itself


def test_an_answer_that_cannot_fit_is_refused() -> None:
    """An answer as long as the context leaves no room for a prompt."""
    with pytest.raises(ContextLengthError) as caught:
        sent("openai", chat(sampling=SamplingParams(max_tokens=1000)))
    assert (caught.value.limit, caught.value.requested) == (1000, 1001)


def test_limits_of_the_registry_are_enforced() -> None:
    """Vertex takes three images, Together a temperature of at most 1."""
    images = Message(role="user", content=(*[ImagePart(data=PNG)] * 4, TextPart(text="?")))
    with pytest.raises(UnsupportedFeatureError, match="4 images"):
        sent("vertex", Request(messages=(images,)), model="meta/llama-4-scout-17b-16e-instruct-maas")
    hot = chat(sampling=SamplingParams(temperature=1.5))
    with pytest.raises(InvalidRequestError, match="at most 1"):
        sent("together", hot, model="meta-llama/Llama-4-Scout-17B-16E-Instruct")


def test_images_are_sent_as_urls() -> None:
    """Bytes become data: URLs, a video its frames; web addresses pass, local files do not."""
    video = VideoPart(frames=(ImagePart(data=b"\xff\xd8\xff jpeg"), ImagePart(url="https://x/y.webp")))
    message = Message(role="user", content=(TextPart(text="What?"), ImagePart(data=PNG), video))
    parts = sent("openai", Request(messages=(message,)))["messages"][0]["content"]
    urls = [part["image_url"]["url"] for part in parts[1:]]
    assert urls[0].startswith("data:image/png;base64,iVBORw0KGgo")
    assert urls[1].startswith("data:image/jpeg;base64,")
    assert urls[2] == "https://x/y.webp"
    for bad in (ImagePart(url="file:///etc/passwd"), ImagePart(data=b"text")):
        with pytest.raises(InvalidRequestError):
            sent("openai", Request(messages=(Message(role="user", content=(bad,)),)))


def test_results_answer_their_calls() -> None:
    """A result without an id answers the oldest call that has none yet."""
    calls = tuple(ToolCall(id=f"c{n}", name="now", arguments="{}") for n in range(2))
    answer = Message(role="assistant", tool_calls=calls)
    results = (Message(role="tool", content="1", tool_call_id="c0"), Message(role="tool", content="2"))
    question = Message(role="user", content="?")
    written = sent("openai", Request(messages=(question, answer, *results)))["messages"]
    assert [entry["tool_call_id"] for entry in written[2:]] == ["c0", "c1"]
    assert written[1]["content"] is None
    with pytest.raises(InvalidRequestError, match="answers no call"):
        sent("openai", Request(messages=(question, Message(role="tool", content="1"))))


def test_extra_body_is_sent_unchanged() -> None:
    """Fields that the SDK does not have are sent as they are."""
    assert sent("openai", chat(), options=Options(extra_body={"logit_bias": {"1": 2}}))["logit_bias"] == {"1": 2}


def test_half_characters_are_refused() -> None:
    """Unpaired surrogates cannot be encoded."""
    with pytest.raises(InvalidRequestError, match="halves of characters"):
        sent("openai", chat("\ud83e"))


def test_embeddings_are_requested_in_batches() -> None:
    """A hundred texts are two calls, with packed vectors where the server has them."""
    calls = dialect("vllm-server").build_embed_calls(EmbedRequest(inputs=tuple("ab" * 50)))
    bodies = [json.loads(call.content) for call in calls]
    assert [len(body["input"]) for body in bodies] == [64, 36]
    assert bodies[0]["encoding_format"] == "base64"


def test_unsupported_embeddings_are_refused() -> None:
    """Pooling is the server's own, and only some servers can leave vectors unnormalized."""
    with pytest.raises(UnsupportedFeatureError, match="pooling='last'"):
        dialect("openai").build_embed_calls(EmbedRequest(inputs=("a",), pooling="last"))
    with pytest.raises(UnsupportedFeatureError, match="as the model made them"):
        dialect("openai").build_embed_calls(EmbedRequest(inputs=("a",), normalize=False))
    (call,) = dialect("llamacpp-server").build_embed_calls(EmbedRequest(inputs=("a",), normalize=False))
    assert json.loads(call.content)["embd_normalize"] == -1


def test_hugging_face_has_another_path_for_embeddings() -> None:
    """They are its feature extraction task, at a path of the model."""
    (call,) = dialect("huggingface", "org/name:auto").build_embed_calls(EmbedRequest(inputs=("a", "b")))
    assert call.url == "https://host/hf-inference/models/org/name/pipeline/feature-extraction"
    assert json.loads(call.content) == {"inputs": ["a", "b"]}
