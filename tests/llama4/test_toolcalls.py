"""Tool calls in streamed text, however it is divided."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.toolcalls import ToolCallParser
from llama4sdk.messages import Message, ToolCall
from llama4sdk.results import fold

NAMES = ("get_weather", "get_time", "search.web")
LIMA = ("get_weather", {"city": "Lima"})

Found = tuple[str, list[tuple[str, object]]]


def read(pieces: list[str], *, first: int = 0) -> tuple[str, tuple[ToolCall, ...]]:
    """The text and the calls of an answer that arrived in these pieces."""
    parser = ToolCallParser(NAMES, first=first)
    events = [event for piece in pieces for event in parser.push(piece)] + parser.end()
    answer = fold(events, model="m", backend="b")
    assert parser.calls == len(answer.tool_calls)
    return answer.text, answer.tool_calls


def found(text: str) -> Found:
    """Text and calls with parsed arguments of an answer, which are the same one character at a time."""
    answer, calls = read([text])
    assert read(list(text)) == (answer, calls)
    return answer, [(call.name, call.parsed()) for call in calls]


@pytest.mark.parametrize(
    "text",
    [
        '[get_weather(city="Lima")]',
        "[get_weather(city='Lima')]",
        '<|python_start|>[get_weather(city="Lima")]<|python_end|>',
        '\n <|python_start|> [ get_weather ( city = "Lima" , ) ] <|python_end|>\n',
        '[get_weather(**{"city": "Lima"})]',
        '{"name": "get_weather", "parameters": {"city": "Lima"}}',
        '{"type": "function", "name": "get_weather", "parameters": {"city": "Lima"}}',
        '{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Lima"}}}',
        '{"name": "get_weather", "arguments": "{\\"city\\": \\"Lima\\"}"}',
        '{"parameters": {"city": "Lima"}, "type": "function", "function": "get_weather"}',
        '[{"name": "get_weather", "parameters": {"city": "Lima"}}]',
        '<|python_start|>{"name": "get_weather", "parameters": {"city": "Lima"}}<|python_end|>',
        '<function=get_weather>{"city": "Lima"}</function>',
        '<function=get_weather>\n{"city": "Lima"}',
        '<|python_start|>get_weather.call(city="Lima")<|python_end|>',
        'get_weather.call(city="Lima")',
    ],
)
def test_every_form_is_a_call(text: str) -> None:
    """All published forms, with and without the wrapper, are one call and no text."""
    assert found(text) == ("", [LIMA])


@pytest.mark.parametrize(
    "text",
    [
        '[get_weather(city="Lima"), get_time(zone=-5)]',
        '[get_weather(city="Lima")]\n[get_time(zone=-5)]',
        '{"name": "get_weather", "parameters": {"city": "Lima"}}; {"name": "get_time", "parameters": {"zone": -5}}',
        '[{"name": "get_weather", "parameters": {"city": "Lima"}}, {"name": "get_time", "parameters": {"zone": -5}}]',
        '<function=get_weather>{"city": "Lima"}</function>\n<function=get_time>{"zone": -5}</function>',
        '<|python_start|>[get_weather(city="Lima")]<|python_end|><|python_start|>[get_time(zone=-5)]<|python_end|>',
    ],
)
def test_parallel_calls_are_all_found(text: str) -> None:
    """Several calls in an answer are returned in order, without their separators."""
    assert found(text) == ("", [LIMA, ("get_time", {"zone": -5})])


def test_values_may_be_nested() -> None:
    """Lists, dicts, literals, escapes and brackets inside strings are parsed as meant."""
    text = r"""[get_weather(a=[1, [2.5, {"b": (True, null)}]], c="]) \"q\" \d \u00e9", d='{', e=None, f=false)]"""
    arguments = {"a": [1, [2.5, {"b": [True, None]}]], "c": ']) "q" \\d é', "d": "{", "e": None, "f": False}
    assert found(text) == ("", [("get_weather", arguments)])


#: By what others' parsers have failed at: in Python, in JSON, and what it means.
ARGUMENTS: dict[str, tuple[str, str, JsonValue]] = {
    "nested-lists": ("[[1, 2], [[3], []]]", "[[1, 2], [[3], []]]", [[1, 2], [[3], []]]),
    "nested-dicts": ('{"a": {"b": {"c": 1}}}', '{"a": {"b": {"c": 1}}}', {"a": {"b": {"c": 1}}}),
    "lists-of-dicts": ("[{'a': 1}, {'b': [2]}]", '[{"a": 1}, {"b": [2]}]', [{"a": 1}, {"b": [2]}]),
    "pythons-words": ("[True, False, None]", "[true, false, null]", [True, False, None]),
    "jsons-words": ("[true, false, null]", "[true, false, null]", [True, False, None]),
    "numbers": ("[-1, 2.5, -0.5e3]", "[-1, 2.5, -0.5e3]", [-1, 2.5, -500.0]),
    "escapes": (r'"a\"b\\c\n\u00e9"', r'"a\"b\\c\n\u00e9"', 'a"b\\c\né'),
    "quotes": (""" "it's" """, '"it\'s"', "it's"),
    "brackets-in-strings": ('"])}>[({"', '"])}>[({"', "])}>[({"),
    "commas-and-equals-in-strings": ('"a, b=c; (d=1), e"', '"a, b=c; (d=1), e"', "a, b=c; (d=1), e"),
    "calls-in-strings": ('"[get_time(zone=1)]"', '"[get_time(zone=1)]"', "[get_time(zone=1)]"),
    "marks-in-strings": ('"</function>"', '"</function>"', "</function>"),
    "line-breaks": ("[\n    1,\n    2\n]", "[\n    1,\n    2\n]", [1, 2]),
    "empty": ("[[], {}, '']", '[[], {}, ""]', [[], {}, ""]),
    "beyond-ascii": ('"日本 🦙 é"', '"日本 🦙 é"', "日本 🦙 é"),
}


@pytest.mark.parametrize(
    "python",
    [
        "{}[get_weather(first=1, value={}, last=2)]",
        "{}<|python_start|>[get_weather(first=1, value={}, last=2)]<|python_end|>",
        "{}<|python_start|>get_weather.call(first=1, value={}, last=2)<|python_end|>",
    ],
    ids=["bare", "wrapped", "built-in"],
)
@pytest.mark.parametrize("before", ["", "Let me see: "], ids=["alone", "leading-prose"])
@pytest.mark.parametrize("case", ARGUMENTS.values(), ids=ARGUMENTS)
def test_python_arguments_arrive_as_they_were_meant(python: str, before: str, case: tuple[str, str, JsonValue]) -> None:
    """Python values that are hard to parse arrive unchanged between two plain arguments."""
    assert found(python.format(before, case[0])) == (
        before,
        [("get_weather", {"first": 1, "value": case[2], "last": 2})],
    )


@pytest.mark.parametrize(
    "form",
    [
        '{}{{"name": "get_weather", "parameters": {{"first": 1, "value": {}, "last": 2}}}}',
        '{}<function=get_weather>{{"first": 1, "value": {}, "last": 2}}</function>',
    ],
    ids=["json", "tag"],
)
@pytest.mark.parametrize("before", ["", "Let me see: "], ids=["alone", "leading-prose"])
@pytest.mark.parametrize("case", ARGUMENTS.values(), ids=ARGUMENTS)
def test_json_arguments_arrive_as_they_were_meant(form: str, before: str, case: tuple[str, str, JsonValue]) -> None:
    """JSON values that are hard to parse arrive unchanged."""
    assert found(form.format(before, case[1])) == (before, [("get_weather", {"first": 1, "value": case[2], "last": 2})])


@pytest.mark.parametrize(
    "text",
    [
        '[get_weather(city="San Francisco"), get_weather(city="Seattle")]',
        "[get_user_info(user_id=7890, special='black')]",
        '<function=trending_songs>{"n": 10}</function>',
        '{"type": "function", "name": "get_weather", "parameters": {"city": "Lima"}}',
        'brave_search.call(query="rain in Lima")',
    ],
    ids=["system-message", "user-message", "custom-format", "json", "built-in"],
)
def test_metas_published_answers_are_calls(text: str) -> None:
    """The answers that Meta's description of the format shows are calls; the first is what Meta's own parser makes."""
    utilities = pytest.importorskip("llama_models.llama3.tool_utils").ToolUtils
    theirs = utilities.maybe_extract_custom_tool_call(text)
    if theirs is None:
        name, query = utilities.maybe_extract_builtin_tool_call(text)
        theirs = name, {"query": query}
    answer, calls = found(f"<|python_start|>{text}<|python_end|>")
    assert answer == ""
    assert calls[0] == theirs
    assert len(calls) == (2 if "Seattle" in text else 1)


def test_built_in_tools_are_called_by_their_name() -> None:
    """``name.call(…)`` in a python block calls any ``name``, and a known one also where an answer begins."""
    rain = ("brave_search", {"query": "rain, in (Lima)"})
    call = 'brave_search.call(query="rain, in (Lima)")'
    assert found(f"<|python_start|>{call}<|python_end|>") == ("", [rain])
    assert found(f"Well. <|python_start|>{call}; {call}") == ("Well. ", [rain, rain])
    assert found('get_weather.call(city="Lima")') == ("", [LIMA])
    assert found(call) == (call, [])
    assert found(f"<|python_start|><|python_end|>{call}") == (call, [])


@pytest.mark.parametrize(
    "code",
    [
        "print('hi')",
        "x = 1\nbrave_search.call(query='x')",
        "brave_search.call('x')",
        "brave_search.call(query=x)",
        "brave_search.call(query='x'",
        "brave_search.calls(query='x')",
        "brave_search.call",
        "brave_search",
        "a" * 120 + ".call(query='x')",
        "import numpy as np; np.array([1])",
        "_",
    ],
)
def test_code_that_is_no_call_is_text(code: str) -> None:
    """Other code stays text, to the last character."""
    assert found(f"<|python_start|>{code}<|python_end|>") == (code, [])


@pytest.mark.parametrize(
    "call",
    [
        '[get_weather(city="Lima", more=[1, {"a": "b"}])]',
        '{"name": "get_weather", "parameters": {"city": "Lima"}}',
        '<function=get_weather>{"city": "Lima"}',
        '<|python_start|>brave_search.call(query="rain")',
    ],
)
def test_a_call_that_is_cut_short_is_text(call: str) -> None:
    """A call truncated anywhere is text, and nothing is called."""
    for length in range(len(call)):
        text, calls = found(call[:length])
        assert calls == []
        assert text == call[:length].removeprefix("<|python_start|>")


@pytest.mark.parametrize(
    "call",
    [
        '[get_weather(city="Lima")]',
        '{"name": "get_weather", "parameters": {"city": "Lima"}}',
        '<function=get_weather>{"city": "Lima"}</function>',
        '<|python_start|>[get_weather(city="Lima")]<|python_end|>',
    ],
)
def test_prose_around_calls_is_text(call: str) -> None:
    """Words before and after a call are text."""
    assert found(f"Let me look [1]. {call}") == ("Let me look [1]. ", [LIMA])
    assert found(f"First:\n{call}\nand more") == ("First:\n\nand more", [LIMA])


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "Plain words, a[0] < b, {x} and <b>bold</b>.",
        '{"city": "Lima", "name": "Bob"}',
        '{"name": "Bob", "age": 3}',
        '[1, 2] and [link](https://example.org) and [[x]] and {{"a"}}',
        "[get_weather(city=)]",
        "[get_weather('Lima')]",
        "[get_weather(city=open('f'))]",
        "[get_weather(city=f'{x}')]",
        "[get_weather(city={1, 2})]",
        "[get_weather(city=1e999)]",
        "[get_weather(city=town)]",
        "[get_weather(city=1, city=2)]",
        "[get_weather(**5)]",
        "[get_weather(city='Lima'), 5]",
        "[get_weather(city='Lima'",
        "[get_weather(city=']}",
        "[get_weather(city=(1]]",
        "[(get_weather)(city=(" + "[" * 200,
        "[get_weather(city=" + "[" * 200 + "]" * 200 + ")]",
        '{"name": "get_weather", "parameters": {"city": NaN}}',
        '{"name": "get_weather", "parameters": 5}',
        '{"name": "", "parameters": {}}',
        '{"name": "get_weather", "parameters"',
        '[{"name": "get_weather", "parameters": {}}, 5]',
        '<function=get_weather>{"city": }</function>',
        "<function=get_weather>Lima</function>",
        "<function=",
        'Use [fetch(url=\'x\')] or {"name": "fetch", "parameters": {}} there.',
        "a <function=fetch>{}</function>",
    ],
)
def test_what_is_no_call_is_text(text: str) -> None:
    """A malformed or unfinished call, or one of an unknown tool within prose, is text."""
    assert found(text) == (text, [])


def test_the_wrapper_is_never_shown() -> None:
    """The wrapper is removed around other text as well."""
    assert found("<|python_start|>print('hi')<|python_end|>") == ("print('hi')", [])
    assert found("<|python_start|>[get_weather(city=<|python_end|>") == ("[get_weather(city=", [])


def test_an_unknown_tool_is_called_where_calls_are_expected() -> None:
    """A call of an unknown tool at the beginning is a call, so that the caller learns of it."""
    assert found("[fetch(url='x')]") == ("", [("fetch", {"url": "x"})])
    assert found("Well. <|python_start|>[fetch(url='x')]") == ("Well. ", [("fetch", {"url": "x"})])
    assert found("[search.web(q='x')]") == ("", [("search.web", {"q": "x"})])


def test_ids_go_on_from_the_conversation() -> None:
    """Ids are counted through a conversation, so that none is used twice."""
    _, calls = read(['[get_time(), get_time()] {"name": "get_time", "parameters": {}}'], first=3)
    assert [call.id for call in calls] == ["call_3", "call_4", "call_5"]


def test_text_does_not_wait() -> None:
    """Text is returned as it comes; only a possible call waits."""
    parser = ToolCallParser(NAMES)
    assert fold(parser.push("The answer is {x: 1} and ["), model="", backend="").text == "The answer is {x: 1} and "
    assert parser.push("get_weather") == []
    assert fold(parser.push("er] is"), model="", backend="").text == "[get_weatherer] is"


def test_a_long_call_in_small_pieces_is_read_once() -> None:
    """Pending text is scanned once, not again with every piece."""
    value = "x" * 500_000
    text = f'[get_weather(city="{value}")]'
    assert read([text[at : at + 50] for at in range(0, len(text), 50)])[1][0].parsed() == {"city": value}


FRAGMENTS = st.sampled_from(
    [
        *[
            "<|python_start|>",
            "<|python_end|>",
            *"[](){}\"'\\,; \n:=<>1é",
            "word",
            "get_weather",
            "fetch",
            "city='Lima'",
        ],
        *[
            "[get_weather(",
            '{"name": ',
            '"get_weather"',
            '"parameters": {}',
            "fetch.call(",
            "get_time.call(a=1)",
            "<function=",
            "</function>",
            "[fetch(a=1)]",
        ],
        *['[get_weather(city="Lima")]', '{"name": "get_time", "parameters": {"a": [1]}}'],
        '<function=get_time>{"a": 1}</function>',
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(FRAGMENTS, max_size=14).map("".join), st.data())
def test_cuts_do_not_matter(text: str, data: st.DataObject) -> None:
    """Text and calls are the same however an answer is divided."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    answer, calls = complete = read([text])
    assert read(pieces) == complete
    assert read(list(text)) == complete
    assert "<|python" not in answer
    assert all(isinstance(json.loads(call.arguments), dict) for call in calls)


NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
VALUES: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.dictionaries(st.text(), VALUES, max_size=3)), min_size=1, max_size=3),
    st.sampled_from(["pythonic", "json"]),
)
def test_what_is_written_into_prompts_is_read_back(calls: list[tuple[str, dict[str, JsonValue]]], style: str) -> None:
    """Calls with any JSON arguments, written by the prompt format, are parsed to the same."""
    written = [ToolCall(id="x", name=name, arguments=json.dumps(arguments)) for name, arguments in calls]
    message = Message(role="assistant", tool_calls=tuple(written))
    prompt = Llama4Prompt(tool_style="json" if style == "json" else "pythonic")
    text = "".join(
        piece for piece in list(prompt.pieces([message], add_generation_prompt=False))[5:-1] if isinstance(piece, str)
    )
    assert found(text) == ("", calls)
