"""Tools through an engine that is told what to say, token by token."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from llama4sdk.events import Event, Finish, TextDelta, ToolCallDelta
from llama4sdk.messages import Message, ToolCall
from llama4sdk.requests import Request, SamplingParams, Tool
from llama4sdk.results import fold

from .bigrams import CONTROL, Prompter, byte_tokenizer, random_table

WEATHER = Tool(name="get_weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}})


@pytest.fixture
def answer() -> Callable[..., list[Event]]:
    """Answers a request with the given text, in which control tokens are control tokens."""
    engine = Prompter(random_table(), context_length=4096)

    def run(text: str, *earlier: Message, tools: tuple[Tool, ...] = (WEATHER,), **sampling: object) -> list[Event]:
        parts = re.split(f"({'|'.join(map(re.escape, CONTROL))})", text)
        ids = [[CONTROL[part]] if part in CONTROL else byte_tokenizer().encode(part) for part in parts]
        engine.script = [token for part in ids for token in part]
        params = SamplingParams.model_validate(sampling)
        messages = (Message(role="user", content="Rain?"), *earlier)
        return list(engine.stream(Request(messages=messages, tools=tools, sampling=params)))

    return run


@pytest.mark.parametrize(
    "text",
    [
        '<|python_start|>[get_weather(city="Lima")]<|python_end|><|eom|>',
        '[get_weather(city="Lima")]<|eot|>',
        '{"name": "get_weather", "parameters": {"city": "Lima"}}<|eom|>',
        '<function=get_weather>{"city": "Lima"}</function><|end_of_text|>',
        '<|python_start|>get_weather.call(city="Lima")<|python_end|><|eom|>',
    ],
)
def test_calls_are_events(answer: Callable[..., list[Event]], text: str) -> None:
    """A call in any form is one event without text; the answer ends for the sake of its result."""
    call, finish = answer(text)
    assert call == ToolCallDelta(index=0, id="call_0", name="get_weather", arguments='{"city": "Lima"}')
    assert isinstance(finish, Finish)
    assert finish.reason == "tool_calls"


def test_words_come_before_calls(answer: Callable[..., list[Event]]) -> None:
    """Prose streams as text, and no control token is ever shown."""
    events = answer('Let me see.<|python_start|>[get_weather(city="A"), get_weather(city="B")]<|python_end|><|eom|>')
    whole = fold(events, model="tiny", backend="bigrams")
    assert whole.text == "Let me see."
    assert [call.parsed() for call in whole.tool_calls] == [{"city": "A"}, {"city": "B"}]
    assert [event.text for event in events if isinstance(event, TextDelta)] == list("Let me see.")


def test_what_is_no_call_is_an_answer(answer: Callable[..., list[Event]]) -> None:
    """Malformed calls are text, the wrapper left out, and the answer simply stops."""
    whole = fold(answer("<|python_start|>[get_weather(city=)]<|python_end|><|eom|>"), model="tiny", backend="bigrams")
    assert (whole.text, whole.tool_calls, whole.finish_reason) == ("[get_weather(city=)]", (), "stop")


def test_without_tools_nothing_is_parsed(answer: Callable[..., list[Event]]) -> None:
    """A request without tools gets the same characters as text."""
    whole = fold(answer("[get_weather()]<|eot|>", tools=()), model="tiny", backend="bigrams")
    assert (whole.text, whole.tool_calls, whole.finish_reason) == ("[get_weather()]", (), "stop")


def test_an_answer_cut_short_keeps_its_reason(answer: Callable[..., list[Event]]) -> None:
    """At the limit of tokens, an unfinished call is text, and a finished one is still a call."""
    whole = fold(answer("[get_weather(city=1)]<|eot|>", max_tokens=10), model="tiny", backend="bigrams")
    assert (whole.text, whole.tool_calls, whole.finish_reason) == ("[get_weath", (), "length")
    whole = fold(answer("[get_weather(city=1)] abc", max_tokens=22), model="tiny", backend="bigrams")
    assert (len(whole.tool_calls), whole.finish_reason) == (1, "length")


def test_ids_are_counted_through_the_conversation(answer: Callable[..., list[Event]]) -> None:
    """A later answer's calls do not share ids with earlier ones."""
    asked = Message(role="assistant", tool_calls=(ToolCall(id="call_0", name="get_weather", arguments="{}"),))
    result = Message(role="tool", content="rain", tool_call_id="call_0")
    call, _ = answer("[get_weather()]<|eom|>", asked, result)
    assert isinstance(call, ToolCallDelta)
    assert call.id == "call_1"


def test_log_probabilities_of_calls_are_not_lost(answer: Callable[..., list[Event]]) -> None:
    """Every token has its log-probability, those inside a call too."""
    whole = fold(answer("Hi [get_weather()]<|eom|>", logprobs=0), model="tiny", backend="bigrams")
    assert "".join(entry.token for entry in whole.logprobs) == "Hi [get_weather()]"
    assert (whole.text, len(whole.tool_calls)) == ("Hi ", 1)


def test_a_call_that_is_ruled_out_is_not_read() -> None:
    """With "none" the model is told of no tools, and what looks like a call is text."""
    engine = Prompter(random_table(), context_length=4096)
    engine.script = byte_tokenizer().encode("[get_weather()]")
    messages = (Message(role="user", content="Rain?"),)
    free, ruled_out = (Request(messages=messages, tools=(WEATHER,), tool_choice=c) for c in ("auto", "none"))
    assert engine.count_tokens(ruled_out) == engine.count_tokens(Request(messages=messages)) < engine.count_tokens(free)
    whole = fold(engine.stream(ruled_out), model="tiny", backend="bigrams")
    assert (whole.text, whole.tool_calls) == ("[get_weather()]", ())
