"""Functions as tools: how they are described, and the loop that calls them."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import date
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from llama4sdk.aclient import AsyncClient
from llama4sdk.client import Client
from llama4sdk.errors import InvalidRequestError, ToolLimitError
from llama4sdk.events import Event, Finish, TextDelta, ToolCallDelta
from llama4sdk.messages import Message
from llama4sdk.requests import SamplingParams, Tool
from llama4sdk.results import Completion
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.testing.registry import scripted_registry
from llama4sdk.testing.scripted import ScriptedBackend
from llama4sdk.tools import ToolLike, as_tools


def get_weather(
    city: Annotated[str, Field(description="Where.")], day: date | None = None, unit: Literal["C", "F"] = "C"
) -> str:
    """The weather in a city.

    Forecasts reach ten days.
    """
    return f"{city}: rain on {day}, 20 {unit}"


class Search(BaseModel):
    """Look something up."""

    words: list[str]
    limit: int = 5


def calls(*wanted: tuple[str, str]) -> list[Event]:
    """An answer that calls tools."""
    deltas = [
        ToolCallDelta(index=n, id=f"c{n}", name=name, arguments=arguments) for n, (name, arguments) in enumerate(wanted)
    ]
    return [*deltas, Finish(reason="tool_calls")]


DONE: list[Event] = [TextDelta(text="It rains."), Finish(reason="stop")]

Run = Callable[..., tuple[Completion, ScriptedBackend]]


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run tools against scripted answers, through either client."""

    def run(
        answers: list[list[Event]], *tools: Callable[..., object], max_steps: int = 10
    ) -> tuple[Completion, ScriptedBackend]:
        registry, backend = scripted_registry(answers[0], later=answers[1:])

        async def asynchronous() -> Completion:
            async with AsyncClient("scripted", registry=registry, hardware=LAPTOP) as client:
                return await client.run_tools("Rain?", tools=tools, max_steps=max_steps, temperature=0)

        if request.param == "async":
            return asyncio.run(asynchronous()), backend
        with Client("scripted", registry=registry, hardware=LAPTOP) as client:
            return client.run_tools("Rain?", tools=tools, max_steps=max_steps, temperature=0), backend

    return run


def results(backend: ScriptedBackend) -> list[str]:
    """Tool results in the last request to the engine."""
    return [message.text for message in backend.engines[0].requests[-1].messages if message.role == "tool"]


def test_functions_are_described_by_their_signatures() -> None:
    """Name, docstring, types, defaults and descriptions become a tool with a JSON schema of its arguments."""
    (tool,) = as_tools([get_weather])
    assert (tool.name, tool.description) == ("get_weather", "The weather in a city.\n\nForecasts reach ten days.")
    assert tool.parameters["required"] == ["city"]
    assert tool.parameters["properties"] == {
        "city": {"description": "Where.", "title": "City", "type": "string"},
        "day": {"anyOf": [{"format": "date", "type": "string"}, {"type": "null"}], "default": None, "title": "Day"},
        "unit": {"default": "C", "enum": ["C", "F"], "title": "Unit", "type": "string"},
    }


def test_models_and_tools_are_taken_as_they_are() -> None:
    """A pydantic model's fields are the arguments; a Tool is a Tool already."""
    ready = Tool(name="ready")
    search, same = as_tools([Search, ready])
    assert (search.name, search.description) == ("Search", "Look something up.")
    assert search.parameters["required"] == ["words"]
    assert same is ready


def test_chat_tells_the_model_of_functions() -> None:
    """A function passed to chat reaches the engine as a tool, and is not called."""
    registry, backend = scripted_registry(calls(("boom", "{}")))

    def boom() -> None:
        raise AssertionError

    with Client("scripted", registry=registry, hardware=LAPTOP) as client:
        assert client.chat("Hi", tools=[boom, Search]).tool_calls[0].name == "boom"
    assert [tool.name for tool in backend.engines[0].requests[0].tools] == ["boom", "Search"]


def positional(x: int, /) -> int:
    return x


def variadic(*x: int) -> tuple[int, ...]:
    return x


def indescribable(x: Callable[[int], int]) -> int:
    return x(1)


@pytest.mark.parametrize(
    "tools",
    [
        (positional,),
        (variadic,),
        (indescribable,),
        (lambda x: x,),
        (functools.partial(get_weather, city="Lima"),),
        (get_weather, Tool(name="get_weather")),
        (5,),
    ],
)
def test_what_cannot_be_described_is_refused(tools: tuple[ToolLike, ...]) -> None:
    """Tools without a name, of the same name, or with parameters that JSON cannot carry raise with a hint."""
    with pytest.raises(InvalidRequestError) as caught:
        as_tools(tools)
    assert caught.value.hint


def test_tools_are_called_until_the_model_answers(run: Run) -> None:
    """Calls are made with checked arguments, their results handed back by id, and the plain answer returned."""
    wanted = [("get_weather", '{"city": "Lima", "day": "2026-01-02"}'), ("get_weather", '{"city": "Oslo"}')]
    answer, backend = run([calls(*wanted), calls(wanted[1]), DONE], get_weather)
    assert (answer.text, answer.finish_reason) == ("It rains.", "stop")
    first, second, third = backend.engines[0].requests
    assert [message.role for message in third.messages] == ["user", "assistant", "tool", "tool", "assistant", "tool"]
    assert third.messages[:4] == second.messages
    assert second.messages[:1] == first.messages
    assert second.messages[2:] == (
        Message(role="tool", content="Lima: rain on 2026-01-02, 20 C", tool_call_id="c0", name="get_weather"),
        Message(role="tool", content="Oslo: rain on None, 20 C", tool_call_id="c1", name="get_weather"),
    )
    assert first.tools == third.tools == as_tools([get_weather])
    assert first.sampling == third.sampling == SamplingParams(temperature=0)


def test_results_are_text_or_json(run: Run) -> None:
    """Text goes back as it is; values, models and dates as JSON."""

    def several() -> object:
        """Return things."""
        return {"when": date(2026, 1, 2), "what": Search(words=["é"]), "no": None}

    _, backend = run([calls(("several", "{}")), DONE], several)
    assert results(backend) == ['{"when":"2026-01-02","what":{"words":["é"],"limit":5},"no":null}']


def test_failures_are_told_to_the_model(run: Run) -> None:
    """An exception, arguments that do not fit or are no JSON, and an unknown tool are results, not the caller's end."""

    def fail() -> None:
        """Fail."""
        raise KeyError("gone")

    wanted = [
        ("fail", "{}"),
        ("get_weather", '{"unit": "K"}'),
        ("get_weather", "{"),
        ("get_whether", "{}"),
        ("fail", "5"),
    ]
    _, backend = run([calls(*wanted), DONE], fail, get_weather)
    failed, misfit, broken, unknown, odd = results(backend)
    assert failed == "Error: KeyError: 'gone'"
    assert misfit.startswith("Error: the arguments do not fit: city: ")
    assert "unit is 'K'" in misfit
    assert broken.startswith("Error: JSONDecodeError: ")
    assert "There is no tool 'get_whether'. Did you mean 'get_weather'?" in unknown
    assert "no JSON object" in odd


def test_the_step_limit_is_an_error_that_keeps_the_conversation(run: Run) -> None:
    """A model that never stops calling is stopped, with all that was said so far."""
    with pytest.raises(ToolLimitError, match="After 3 answers the model still calls tools: get_weather") as caught:
        run([calls(("get_weather", '{"city": "Lima"}'))], get_weather, max_steps=3)
    assert [message.role for message in caught.value.messages] == ["user", *["assistant", "tool"] * 2, "assistant"]
    assert caught.value.hint
    with Client("echo") as client:
        assert client.chat([*caught.value.messages, {"role": "user", "content": "Go on."}]).text == "Go on."


@pytest.mark.parametrize("tool", [Search, Tool(name="x"), 5])
def test_only_functions_can_be_run(run: Run, tool: Callable[..., object]) -> None:
    """Descriptions of tools have nothing that could be called."""
    with pytest.raises(InvalidRequestError, match="cannot be called"):
        run([DONE], tool)


def test_no_steps_are_refused(run: Run) -> None:
    """A limit that allows no answer is a mistake."""
    with pytest.raises(InvalidRequestError, match="max_steps is 0"):
        run([DONE], get_weather, max_steps=0)


def test_asynchronous_functions_are_awaited() -> None:
    """The asynchronous client awaits them; the other says who can."""

    async def later(x: int) -> int:
        """Wait."""
        await asyncio.sleep(0)
        return x + 1

    registry, backend = scripted_registry(calls(("later", '{"x": 1}')), later=[DONE])

    async def main() -> Completion:
        async with AsyncClient("scripted", registry=registry, hardware=LAPTOP) as client:
            return await client.run_tools("?", tools=[later])

    assert asyncio.run(main()).text == "It rains."
    assert results(backend) == ["2"]
    with (
        Client("scripted", registry=registry, hardware=LAPTOP) as client,
        pytest.raises(InvalidRequestError, match="asynchronous"),
    ):
        client.run_tools("?", tools=[later])
