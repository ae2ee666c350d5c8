"""What is read: answers in every spelling that servers have, cut anywhere, and errors that come within them."""

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
    """The answer these bytes are."""
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
    """Byte by byte it is the same answer, with characters of several bytes whole."""
    data = lines(chunk("Grüße "), chunk("🦙"), chunk(None, "stop"), {"choices": [], "usage": {"prompt_tokens": 3}})
    whole = read([data])
    assert (whole.text, whole.finish_reason, whole.usage.input_tokens) == ("Grüße 🦙", "stop", 3)
    assert read([data[place : place + 1] for place in range(len(data))]) == whole


def test_halves_of_a_character_are_joined() -> None:
    """Some servers cut a character into two escapes of one delta each."""
    data = lines(
        '{"choices":[{"delta":{"content":"a\\ud83e"}}]}',
        '{"choices":[{"delta":{"content":"\\udd99b"}}]}',
        chunk("", "stop"),
    )
    assert read([data]).text == "a🦙b"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("stop", "stop"),
        ("eos", "stop"),
        ("eos_token", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("content_filter", "content_filter"),
    ],
)
def test_reasons_have_one_name(said: str, meant: str) -> None:
    """Whatever a server calls the end of an answer, it is one of ours."""
    assert read([lines(chunk("a", said))]).finish_reason == meant


def test_an_end_nobody_knows_is_no_end() -> None:
    """An answer that was aborted is not passed off as whole."""
    with pytest.raises(APIError, match="'abort'"):
        read([lines(chunk("a", "abort"))])


def test_done_is_not_needed_behind_a_reason() -> None:
    """Servers that never send [DONE] are believed when they gave a reason; without one the answer was cut."""
    assert read([lines(chunk("a", "stop"), done=False)]).text == "a"
    with pytest.raises(StreamInterruptedError):
        read([lines(chunk("a"), done=False)])
    with pytest.raises(StreamInterruptedError):
        read([lines(chunk("a"))])


def test_an_answer_that_came_whole() -> None:
    """One object instead of a stream reads the same, calls included."""
    call = {"id": "c", "type": "function", "function": {"name": "now", "arguments": {"in": "Lima"}}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {
        "choices": [{"message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    answer = read([json.dumps(body).encode()], head=WHOLE)
    assert answer.tool_calls[0].parsed() == {"in": "Lima"}
    assert (answer.finish_reason, answer.usage.total_tokens) == ("tool_calls", 3)


def test_an_error_within_an_answer_wins_over_its_end() -> None:
    """VLLM ends a stream with an error, and then as if nothing had been."""
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
    """Each of the ways to say it within a stream is the error it would have been before one."""
    with pytest.raises(kind):
        read([data])


@pytest.mark.parametrize("data", [lines("{"), lines("3"), lines('{"choices":'), b"data: {\xff}\n\n"])
def test_what_is_no_json_is_an_error(data: bytes) -> None:
    """Nothing that cannot be read is skipped in silence."""
    with pytest.raises(APIError, match="no JSON"):
        read([data])


def fragment(
    index: int | None = None, call_id: str | None = None, name: str | None = None, arguments: Any = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    place = {} if index is None else {"index": index}
    return chunk(delta={"tool_calls": [{**place, "id": call_id, "function": function}]})


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
    """Nobody can be called so."""
    with pytest.raises(APIError, match="without naming it"):
        read([lines(fragment(0, "a", None, "{}"), chunk(None, "tool_calls"))])


def test_calls_left_in_the_text_are_rescued_when_asked() -> None:
    """What a server's parser missed is a call with ``rescue``, and text without."""
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
    """Objects or parallel arrays: the drawn token and the likeliest alternatives, as many as were asked for."""
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
def test_usage_wherever_it_stands(name: str, fields: dict[str, Any], expected: Usage) -> None:
    """Counts are taken from where each server puts them, and never made up."""
    assert read([lines(chunk("a", "stop"), {"choices": [], **fields})], name=name).usage == expected


def test_a_refusal_is_a_filtered_answer() -> None:
    """Its words are the text, and nobody takes them for an answer."""
    answer = read([lines(chunk(delta={"refusal": "I may not."}), chunk(None, "stop"))])
    assert (answer.text, answer.finish_reason) == ("I may not.", "content_filter")
