"""Calls that must be made, and calls that must not, from random weights behind Llama 4's vocabulary."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from llama4sdk_torch.engine import TorchEngine
from pydantic import BaseModel, Field

from llama4sdk.errors import InvalidRequestError
from llama4sdk.messages import Message
from llama4sdk.requests import Request, SamplingParams, Tool
from llama4sdk.results import Completion, fold

WEATHER = Tool(
    name="get_weather",
    parameters={
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
            "unit": {"$ref": "#/$defs/Unit"},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
        "$defs": {"Unit": {"enum": ["C", "F"]}},
    },
)
NOW = Tool(name='now "é"\\\n')
TOOLS = (WEATHER, Tool(name="stop", parameters={"properties": {}, "additionalProperties": False}))


def call(engine: TorchEngine, tools: tuple[Tool, ...], choice: str, **sampling: object) -> Completion:
    """The answer to a question with tools."""
    params = SamplingParams.model_validate({"max_tokens": 300, "temperature": 1.5, "top_p": 1.0, "seed": 3} | sampling)
    messages = (Message(role="user", content="Will it rain?"),)
    request = Request(messages=messages, tools=tools, tool_choice=choice, sampling=params)
    return fold(engine.stream(request), model=engine.model, backend="torch")


class Weather(BaseModel, extra="forbid", strict=True):
    """Arguments of ``get_weather``, as pydantic sees them."""

    city: Annotated[str, Field(max_length=12)]
    days: Annotated[int, Field(ge=1, le=14)]
    unit: Literal["C", "F"] = "C"


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("choice", ["required", "get_weather"])
def test_a_forced_call_is_a_valid_call(llama4: TorchEngine, choice: str, seed: int) -> None:
    """From random weights comes one call of the right tool, with arguments that fit its schema, and nothing else."""
    answer = call(llama4, TOOLS, choice, seed=seed, temperature=seed / 2)
    assert (answer.text, answer.finish_reason) == ("", "tool_calls")
    (made,) = answer.tool_calls
    assert choice in ("required", made.name)
    if made.name == "get_weather":
        Weather.model_validate_json(made.arguments)
    else:
        assert (made.name, made.parsed()) == ("stop", {})


def test_a_forced_call_has_any_name(llama4: TorchEngine) -> None:
    """Quotes, line breaks and other scripts in a name are spelled as JSON spells them."""
    answer = call(llama4, (NOW.model_copy(update={"parameters": {"maxProperties": 0}}),), "required")
    assert [(made.name, made.arguments) for made in answer.tool_calls] == [(NOW.name, "{}")]


def test_a_call_that_is_ruled_out_is_not_offered(llama4: TorchEngine) -> None:
    """With "none" the model reads, and writes, as if there were no tools; with a forced call it reads of JSON."""
    messages = (Message(role="user", content="Will it rain?"),)
    plain, ruled_out, free, forced = (
        llama4.count_tokens(Request(messages=messages, tools=tools, tool_choice=choice))
        for tools, choice in (((), "auto"), (TOOLS, "none"), (TOOLS, "auto"), (TOOLS, "required"))
    )
    assert plain == ruled_out < free
    assert forced != free
    assert call(llama4, TOOLS, "none", max_tokens=8).text == call(llama4, (), "auto", max_tokens=8).text


def test_a_tools_schema_that_cannot_be_enforced_is_refused(llama4: TorchEngine) -> None:
    """Only where a call is forced: left to the model, nothing is promised of its arguments."""
    odd = Tool(name="odd", parameters={"type": "object", "not": {"required": ["a"]}})
    with pytest.raises(InvalidRequestError, match=r'The call of a tool cannot be enforced: .*"not"'):
        call(llama4, (odd,), "required")
    assert call(llama4, (odd,), "auto", max_tokens=2).finish_reason == "length"
