"""Lines of JSON, cut and damaged at any byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama4sdk_ollama.reader import OllamaReader

from llama4sdk.errors import APIError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, TextDelta, ToolCallDelta

LINES = [
    {"message": {"role": "assistant", "thinking": "Hm."}, "done": False},
    {"message": {"role": "assistant", "content": "naïve 🦙"}, "done": False},
    {"message": {"role": "assistant", "content": ""}, "logprobs": [{"token": "a", "logprob": -1.0}], "done": False},
    {"message": {"role": "assistant", "content": " 日本"}, "logprobs": [{"token": "b", "logprob": -2}], "done": False},
    {"message": {"content": "", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}, "done": False},
    {"message": {"role": "assistant", "content": "!"}, "done": True, "done_reason": "stop", "eval_count": 3},
]
NAMES = "message content tool_calls function name arguments logprobs token logprob top_logprobs done response error"
MEMBERS = st.sampled_from(NAMES.split())
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
ANSWER = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in LINES).encode()


def reader() -> OllamaReader:
    return OllamaReader(context_length=100, min_prompt_tokens=1, earlier_calls=5, max_alternatives=0)


def read(*pieces: bytes) -> list[Event]:
    answer_reader = reader()
    events = [event for piece in pieces for event in answer_reader.feed(piece)]
    return [*events, *answer_reader.end()]


WHOLE = read(ANSWER)


def test_an_answer() -> None:
    """Reasoning is left out; early logprobs wait for their text; a call makes the reason tool_calls."""
    texts = [event for event in WHOLE if isinstance(event, TextDelta)]
    assert [text.text for text in texts] == ["naïve 🦙", " 日本", "!"]
    assert [entry.token for entry in texts[1].logprobs] == ["a", "b"]
    (call,) = [event for event in WHOLE if isinstance(event, ToolCallDelta)]
    assert (call.id, call.name, call.arguments) == ("call_5", "f", "{}")
    (finish,) = [event for event in WHOLE if isinstance(event, Finish)]
    assert (finish.reason, finish.usage.input_tokens, finish.usage.output_tokens) == ("tool_calls", None, 3)


def test_cuts_do_not_change_the_answer() -> None:
    """The answer is the same cut at any byte, and at every byte."""
    for position in range(len(ANSWER) + 1):
        assert read(ANSWER[:position], ANSWER[position:]) == WHOLE
    assert read(*(ANSWER[n : n + 1] for n in range(len(ANSWER)))) == WHOLE
    assert read(ANSWER.rstrip().replace(b"\n", b"\r\n\r\n")) == WHOLE


def test_bytes_after_the_end_are_not_read() -> None:
    """A second answer and other bytes are ignored."""
    assert read(ANSWER, ANSWER, b"nonsense\n") == WHOLE


def test_an_answer_without_its_end_is_interrupted() -> None:
    """It is interrupted wherever it stops."""
    for position in range(ANSWER.rindex(b"\n")):
        with pytest.raises(Llama4Error) as caught:
            read(ANSWER[:position])
        assert isinstance(caught.value, StreamInterruptedError | APIError)


@pytest.mark.parametrize(
    "line",
    [
        *(b"<html>", b"[]", b"3", b'"text"', b'{"message": ', b"\xff\xfe", b"data: {}", b'{"x": "\\ud83e"}'),
        b'{"message": {"tool_calls": [{"function": {}}]}}',
        b'{"message": {"tool_calls": ["f"]}}',
        b'{"logprobs": [{"token": "a"}]}',
    ],
)
def test_damaged_lines_are_an_error(line: bytes) -> None:
    """The error says that the answer is none of Ollama's."""
    with pytest.raises(APIError, match="none of Ollama's") as caught:
        read(line + b"\n")
    assert caught.value.hint


@given(st.binary(max_size=200), st.integers(0, len(ANSWER)))
def test_any_bytes_are_an_answer_or_an_sdk_error(noise: bytes, position: int) -> None:
    """Noise at any position is skipped or raises a Llama4Error."""
    try:
        events = read(ANSWER[:position] + noise + ANSWER[position:])
    except Llama4Error:
        return
    assert isinstance(events[-1], Finish)


@given(st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(MEMBERS, inner)))
def test_any_json_is_an_answer_or_an_sdk_error(value: object) -> None:
    """Members of any type are read or raise a Llama4Error."""
    try:
        events = read(json.dumps(value).encode() + b"\n", ANSWER)
    except Llama4Error:
        return
    assert isinstance(events[-1], Finish)
