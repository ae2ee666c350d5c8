"""Constraints of an answer: validated early, enforced by engines, and parsed as a value."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, assert_type

import pytest
from pydantic import BaseModel, JsonValue, TypeAdapter

from llama4sdk import AsyncClient, Client, Completion, Tool
from llama4sdk.backend import Capabilities
from llama4sdk.constraints import Grammar, JsonSchema, Regex, as_constraint
from llama4sdk.errors import InvalidRequestError, StructuredOutputError, UnknownOptionError, UnsupportedFeatureError
from llama4sdk.events import Finish, FinishReason, TextDelta
from llama4sdk.requests import Request
from llama4sdk.testing import LAPTOP, scripted_registry

SCHEMA: dict[str, JsonValue] = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
TOOL = Tool(name="now", description="The time.", parameters={"type": "object", "properties": {}})


class City(BaseModel):
    """A model to be filled."""

    name: str
    people: int = 0


@dataclass
class Point:
    """A dataclass to be filled."""

    x: int
    y: int


def client(text: str = "{}", reason: FinishReason = "stop", **options: Any) -> Client:
    """One that always gets this answer."""
    registry, _ = scripted_registry([TextDelta(text=text), Finish(reason=reason)], **options)
    return Client("scripted", registry=registry, hardware=LAPTOP)


def test_a_model_comes_back_as_a_model() -> None:
    """With a type as the schema, ``parsed`` is of that type, for people and for type checkers, streamed or not."""
    answer = client('{"name": "Lima", "people": 10}').chat("Which city?", schema=City)
    assert_type(answer, Completion[City])
    assert answer.parsed == City(name="Lima", people=10)
    with client('{"name": "Lima"}').generate("City:", schema=City, stream=True) as stream:
        assert stream.completion().parsed.name == "Lima"


def test_any_type_that_json_can_carry_is_a_schema() -> None:
    """Dataclasses, lists and, through an adapter, anything that pydantic knows."""
    assert client('{"x": 1, "y": 2}').chat("Where?", schema=Point).parsed == Point(1, 2)
    assert client("[1, 2]").chat("Which?", schema=list[int]).parsed == [1, 2]
    word = client('"yes"').chat("Really?", schema=TypeAdapter[Literal["yes", "no"]](Literal["yes", "no"]))
    assert_type(word.parsed, Literal["yes", "no"])
    assert word.parsed == "yes"


def test_a_json_schema_gives_plain_json() -> None:
    """A dict is taken as a JSON schema; the answer's value is what JSON says."""
    answer = client('{"name": "Lima"}').chat("Which city?", schema=SCHEMA)
    assert_type(answer.parsed, JsonValue)
    assert answer.parsed == {"name": "Lima"}


def test_the_asynchronous_client_knows_the_type_too() -> None:
    """``AsyncClient`` parses whole and streamed answers, too."""

    async def main() -> None:
        registry, _ = scripted_registry([TextDelta(text='{"name": "Lima"}'), Finish(reason="stop")])
        async with AsyncClient("scripted", registry=registry, hardware=LAPTOP) as asynchronous:
            assert (await asynchronous.chat("Which city?", schema=City)).parsed.name == "Lima"
            stream = await asynchronous.generate("City:", schema=City, stream=True)
            assert (await stream.completion()).parsed.name == "Lima"

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "reason", "message"),
    [
        ('{"name": "Li', "length", "was cut at its limit of tokens"),
        ('{"name": "Lima"}', "length", "was cut at its limit of tokens"),
        ('{"name": 7}', "stop", "name is 7: input should be a valid string"),
        ("Lima", "stop", "invalid JSON"),
        ('{"name": "Lima"}', "content_filter", "content filter"),
    ],
)
def test_an_answer_that_is_no_value_says_why(text: str, reason: FinishReason, message: str) -> None:
    """An answer that was cut or does not validate raises when it is parsed, and keeps its text."""
    answer = client(text, reason).chat("Which city?", schema=City)
    with pytest.raises(StructuredOutputError, match=message) as caught:
        _ = answer.parsed
    assert caught.value.completion.text == text
    assert caught.value.hint


def test_a_partial_answer_is_no_value() -> None:
    """The partial answer of an open stream cannot be parsed."""
    with (
        client('{"name": "Lima"}').chat("Which city?", schema=City, stream=True) as stream,
        pytest.raises(StructuredOutputError, match="not at its end"),
    ):
        _ = stream.partial.parsed


def test_plain_text_has_no_value() -> None:
    """An answer without a schema cannot be parsed."""
    with pytest.raises(InvalidRequestError, match="plain text"):
        _ = client("{}").chat("Which city?").parsed


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda c: c.chat("Hi", schema=City, regex="a"), "schema and regex were given"),
        (lambda c: c.generate("Hi", regex="a", grammar='start: "a"'), "regex and grammar were given"),
        (lambda c: c.chat("Hi", schema={"default": {1, 2}}), "no JSON"),
        (lambda c: c.chat("Hi", schema={"maximum": float("nan")}), "no JSON"),
        (lambda c: c.chat("Hi", schema={1: "a"}), "no JSON"),
        (lambda c: c.chat("Hi", schema=Callable), "cannot be described"),
        (lambda c: c.chat("Hi", schema="{}"), "cannot be described"),
        (lambda c: c.chat("Hi", schema=object()), "cannot be described"),
        (lambda c: c.chat("Hi", regex=""), "Invalid regex"),
        (lambda c: c.chat("Hi", grammar=7), "Invalid grammar"),
        (lambda c: c.chat("Hi", schema=City, tools=[TOOL]), "no other shape"),
        (lambda c: c.chat("Hi", tool_choice="required"), "there is none"),
        (lambda c: c.chat("Hi", tools=[TOOL], tool_choice="then"), "none of auto, none, required, now"),
    ],
)
def test_what_cannot_mean_anything_is_refused_at_once(ask: Callable[[Client], object], message: str) -> None:
    """Contradictions, and schemas that are none, raise before the model is loaded."""
    registry, backend = scripted_registry()
    with (
        Client("scripted", registry=registry, hardware=LAPTOP) as asked,
        pytest.raises(InvalidRequestError, match=message) as caught,
    ):
        ask(asked)
    assert caught.value.hint
    assert not backend.engines


def test_a_choice_of_tools_is_for_chats() -> None:
    """``generate`` has no tools, so it has no choice of them; the nearest option is named."""
    with pytest.raises(UnknownOptionError, match="There is no option 'tool_choice'"):
        client().generate("Hi", tool_choice="none")  # type: ignore[call-overload]
    with pytest.raises(UnknownOptionError, match="Did you mean 'regex'"):
        client().chat("Hi", regx="a")  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("ask", "feature"),
    [
        (lambda c: c.chat("Hi", schema=City), "JSON schema"),
        (lambda c: c.chat("Hi", regex="a"), "regular expression"),
        (lambda c: c.generate("Hi", grammar='start: "a"'), "grammar"),
        (lambda c: c.chat("Hi", tools=[TOOL], tool_choice="none"), "tool_choice"),
    ],
)
def test_what_is_not_declared_is_refused(ask: Callable[[Client], object], feature: str) -> None:
    """A backend that declares none of them never sees such a request."""
    abilities = Capabilities(features=frozenset({"chat", "generate", "tools"}))
    with pytest.raises(UnsupportedFeatureError, match=feature):
        ask(client(capabilities=abilities))


def test_a_request_survives_json() -> None:
    """Each kind of constraint is the same after a journey as JSON; only the Python type stays behind."""
    schema, regex, grammar = as_constraint(SCHEMA), as_constraint(None, "a+"), as_constraint(None, None, 'start: "a"')
    assert (schema, regex, grammar) == (
        JsonSchema(definition=SCHEMA),
        Regex(pattern="a+"),
        Grammar(lark='start: "a"'),
    )
    for constraint in (schema, regex, grammar):
        request = Request(prompt="Hi", constraint=constraint)
        assert Request.model_validate_json(request.model_dump_json()) == request


def test_a_copy_of_an_answer_is_as_good() -> None:
    """Pickled, copied or changed, an answer is still read by its schema, and by its own text."""
    answer = client('{"name": "Lima"}').chat("Which city?", schema=City)
    for copied in (pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer)):
        assert copied == answer
        assert copied.parsed == answer.parsed == City(name="Lima")
    assert answer.model_copy(update={"text": '{"name": "Cusco"}'}).parsed.name == "Cusco"


def test_the_objects_of_a_type_have_its_fields_alone() -> None:
    """Objects of a type get no additional fields; a JSON schema is used unchanged."""
    definition = JsonSchema.of(list[City]).definition
    assert definition["$defs"] == {
        "City": {
            "additionalProperties": False,
            "description": "A model to be filled.",
            "properties": {
                "name": {"title": "Name", "type": "string"},
                "people": {"default": 0, "title": "People", "type": "integer"},
            },
            "required": ["name"],
            "title": "City",
            "type": "object",
        }
    }
    assert JsonSchema.of(SCHEMA).definition == SCHEMA


def test_tools_stay_known_where_none_may_be_called() -> None:
    """``tool_choice="none"`` goes with a schema: the last answer of a conversation with tools."""
    answer = client('{"name": "Lima"}').chat("Which city?", tools=[TOOL], tool_choice="none", schema=City)
    assert answer.parsed.name == "Lima"
