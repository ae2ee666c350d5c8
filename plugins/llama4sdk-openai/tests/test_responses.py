"""Answers in every form that servers send, cut anywhere, and errors within them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from llama4sdk_openai.profiles import load_profiles
from llama4sdk_openai.responses import ChatReader

from llama4sdk.errors import (
    APIError,
    APIStatusError,
    AuthenticationError,
    ContextLengthError,
    Llama4Error,
    OverloadedError,
    RateLimitError,
    StreamInterruptedError,
)
from llama4sdk.events import Event, TokenLogprob, TopLogprob, Usage
from llama4sdk.llama4.toolcalls import ToolCallParser
from llama4sdk.remote.dialect import Head
from llama4sdk.results import Completion, fold

STREAM = Head(200, {"content-type": "text/event-stream"})
WHOLE = Head(200, {"content-type": "application/json"})


def read(pieces: Iterable[bytes], *, name: str = "openai", head: Head = STREAM, rescue: bool = False) -> Completion:
    """The answer of these bytes."""
    reader = ChatReader(
        load_profiles()[name],
        "m",
        100,
        max_alternatives=2,
        call_parser=ToolCallParser(["now"]) if rescue else None,
    )
    reader.begin(head)
    events: list[Event] = [event for piece in pieces for event in reader.feed(piece)]
    events += reader.end()
    return fold(events, model="m", backend=name)


def lines(*values: object, done: bool = True) -> bytes:
    """Server-sent events of these objects."""
    data = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return "".join(f"data: {line}\n\n" for line in [*data, *(["[DONE]"] if done else [])]).encode()


def chunk(content: str | None = None, reason: str | None = None, **fields: Any) -> dict[str, Any]:
    delta = {"content": content} if content is not None else {}
    return {"choices": [{"index": 0, "delta": delta | fields.pop("delta", {}), "finish_reason": reason, **fields}]}


def test_an_answer_may_be_cut_anywhere() -> None:
    """Read byte by byte the answer is the same, with characters of several bytes intact."""
    data = lines(chunk("Grüße "), chunk("🦙"), chunk(None, "stop"), {"choices": [], "usage": {"prompt_tokens": 3}})
    whole = read([data])
    assert (whole.text, whole.finish_reason, whole.usage.input_tokens) == ("Grüße 🦙", "stop", 3)
    assert read([data[start : start + 1] for start in range(len(data))]) == whole


def test_halves_of_a_character_are_joined() -> None:
    """Some servers cut a character into two escapes of one delta each."""
    data = lines(
        '{"choices":[{"delta":{"content":"a\\ud83e"}}]}',
        '{"choices":[{"delta":{"content":"\\udd99b"}}]}',
        chunk("", "stop"),
    )
    assert read([data]).text == "a🦙b"


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("eos_token", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
    ],
)
def test_reasons_have_one_name(reason: str, finish_reason: str) -> None:
    """Each server's finish reason is one of the SDK's."""
    assert read([lines(chunk("a", reason))]).finish_reason == finish_reason


def test_an_unknown_finish_reason_is_an_error() -> None:
    """An aborted answer is not passed off as complete."""
    with pytest.raises(APIError, match="'abort'"):
        read([lines(chunk("a", "abort"))])


def test_done_is_not_needed_after_a_finish_reason() -> None:
    """Without a finish reason the answer was cut, whether [DONE] came or not."""
    assert read([lines(chunk("a", "stop"), done=False)]).text == "a"
    with pytest.raises(StreamInterruptedError):
        read([lines(chunk("a"), done=False)])
    with pytest.raises(StreamInterruptedError):
        read([lines(chunk("a"))])


def test_an_answer_without_a_stream() -> None:
    """One object is read like a stream, calls included."""
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": {"in": "Lima"}}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    answer = read([json.dumps(body).encode()], head=WHOLE)
    assert answer.tool_calls[0].parsed() == {"in": "Lima"}
    assert (answer.finish_reason, answer.usage.total_tokens) == ("tool_calls", 3)


def test_an_error_within_an_answer_takes_precedence_over_its_end() -> None:
    """VLLM sends an error, and then ends the stream normally."""
    error = {"error": {"message": "the engine died", "type": "InternalServerError", "code": 500}}
    with pytest.raises(APIStatusError, match="the engine died"):
        read([lines(chunk("a"), error)])


ERRORS: list[tuple[bytes, type[Llama4Error]]] = [
    (lines({"error": {"message": "slow down", "type": "rate_limit_exceeded"}}), RateLimitError),
    (lines({"error": "no room", "error_type": "overloaded"}), APIStatusError),
    (lines({"error": {"message": "no room", "type": "overloaded_error"}}), OverloadedError),
    (
        lines({"error": {"message": "x", "type": "exceed_context_size_error", "code": 400, "n_ctx": 9}}),
        ContextLengthError,
    ),
    (b'event: error\ndata: {"message": "who are you", "code": 401}\n\n', AuthenticationError),
    (lines([{"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}]), RateLimitError),
    (lines({"x_groq": {"error": {"message": "over capacity", "type": "overloaded"}}, "choices": []}), OverloadedError),
    (lines({"object": "error", "message": "too hot", "code": 400}), APIStatusError),
]


@pytest.mark.parametrize(("data", "kind"), ERRORS)
def test_errors_within_answers(data: bytes, kind: type[Llama4Error]) -> None:
    """Each form of an error within a stream is the error that its status would have been."""
    with pytest.raises(kind):
        read([data])


@pytest.mark.parametrize("data", [lines("{"), lines("3"), lines('{"choices":'), b"data: {\xff}\n\n"])
def test_invalid_json_is_an_error(data: bytes) -> None:
    """Nothing unreadable is skipped silently."""
    with pytest.raises(APIError, match="no JSON"):
        read([data])


def fragment(
    index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    position = {} if index is None else {"index": index}
    return chunk(delta={"tool_calls": [{**position, "id": call_id, "function": function}]})


def test_calls_are_assembled_from_fragments() -> None:
    """Fragments of several chunks are two calls; ``tests/remote`` has all forms of fragments."""
    chunks = [
        fragment(0, "a", "now", ""),
        fragment(1, "b", "then", '{"y"'),
        fragment(0, None, None, '{"x": 1}'),
        fragment(1, None, None, ": 2}"),
    ]
    answer = read([lines(*chunks, chunk(None, "tool_calls"))])
    assert [(call.id, call.name, call.parsed()) for call in answer.tool_calls] == [
        ("a", "now", {"x": 1}),
        ("b", "then", {"y": 2}),
    ]


def test_a_call_without_a_name_is_an_error() -> None:
    """A call needs a tool's name."""
    with pytest.raises(APIError, match="without naming it"):
        read([lines(fragment(0, "a", None, "{}"), chunk(None, "tool_calls"))])


def test_calls_left_in_the_text_are_found_when_asked() -> None:
    """A call that the server's parser missed is a call with ``rescue``, and text without."""
    data = lines(chunk("[now("), chunk("zone='UTC')]"), chunk(None, "stop"))
    rescued = read([data], rescue=True)
    assert (rescued.text, rescued.finish_reason) == ("", "tool_calls")
    assert rescued.tool_calls[0].parsed() == {"zone": "UTC"}
    assert read([data]).text == "[now(zone='UTC')]"


LOGPROBS: dict[str, Any] = {
    "content": {
        "content": [
            {
                "token": "a",
                "logprob": -0.5,
                "top_logprobs": [
                    {"token": "b", "logprob": -3},
                    {"token": "a", "logprob": -0.5},
                    {"token": "c", "logprob": -4},
                ],
            }
        ]
    },
    "arrays": {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -3, "a": -0.5, "c": -4}]},
}


@pytest.mark.parametrize("form", LOGPROBS)
def test_logprobs_in_either_form(form: str) -> None:
    """Objects and parallel arrays give the same tokens and alternatives."""
    top = (TopLogprob(token="a", logprob=-0.5), TopLogprob(token="b", logprob=-3.0))
    answer = read([lines(chunk("a", "stop", logprobs=LOGPROBS[form]))])
    assert answer.logprobs == (TokenLogprob(token="a", logprob=-0.5, top=top),)


USAGES: list[tuple[str, dict[str, Any], Usage]] = [
    ("openai", {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}, Usage(input_tokens=5, output_tokens=2)),
    (
        "openai",
        {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}},
        Usage(input_tokens=5, output_tokens=2, cached_tokens=4),
    ),
    (
        "groq",
        {"x_groq": {"usage": {"prompt_tokens": 5, "completion_tokens": 2}}},
        Usage(input_tokens=5, output_tokens=2),
    ),
    (
        "llamacpp-server",
        {"timings": {"cache_n": 3, "prompt_n": 2, "predicted_n": 7}},
        Usage(input_tokens=5, output_tokens=7, cached_tokens=3),
    ),
    (
        "openrouter",
        {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "cost": 0.01}},
        Usage(input_tokens=5, output_tokens=2, cost=0.01),
    ),
    (
        "openai",
        {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "cost": 3}},
        Usage(input_tokens=5, output_tokens=2),
    ),
    ("openai", {"usage": None}, Usage()),
]


@pytest.mark.parametrize(("name", "fields", "expected"), USAGES)
def test_usage_is_read_wherever_it_is(name: str, fields: dict[str, Any], expected: Usage) -> None:
    """Counts are read where each server puts them, and never guessed."""
    assert read([lines(chunk("a", "stop"), {"choices": [], **fields})], name=name).usage == expected


def test_a_refusal_is_a_filtered_answer() -> None:
    """A refusal's words are the text, and the finish reason is content_filter."""
    answer = read([lines(chunk(delta={"refusal": "I may not."}), chunk(None, "stop"))])
    assert (answer.text, answer.finish_reason) == ("I may not.", "content_filter")
