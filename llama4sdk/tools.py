"""Python functions as tools: described to the model from their signatures, and called when it asks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, cast

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ArgsKwargs, to_json

from llama4sdk._text import in_words, nearest
from llama4sdk.errors import InvalidRequestError, ToolLimitError
from llama4sdk.messages import Message, ToolCall
from llama4sdk.requests import Tool
from llama4sdk.results import Completion

__all__ = ["ToolLike", "ToolRun", "as_tools"]

ToolLike: TypeAlias = Tool | type[BaseModel] | Callable[..., object]
"""A tool, a pydantic model whose fields are the arguments, or a function with annotated parameters."""


def as_tools(tools: Sequence[ToolLike]) -> tuple[Tool, ...]:
    """Each as the model is told of it. Raises InvalidRequestError for what cannot be described, or is named twice."""
    described = tuple(map(_described, tools))
    names = [tool.name for tool in described]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidRequestError(f"Two tools are named '{min(twice)}'.", hint="Give every tool a name of its own.")
    return described


class ToolRun:
    """A conversation in which tools are called until the model answers plainly.

    ``messages`` are the conversation so far, ``tools`` what the model is told of. Does no I/O of its own, so that both
    clients share it.
    """

    def __init__(
        self, messages: Sequence[Message], functions: Sequence[Callable[..., object]], max_steps: int, *, wait: bool
    ) -> None:
        """``wait`` allows functions whose results are awaited. Raises InvalidRequestError for what is no function."""
        if max_steps < 1:
            raise InvalidRequestError(
                f"max_steps is {max_steps}.", hint="It counts the model's answers; pass 1 or more."
            )
        for function in functions:
            _ensure_callable(function, wait=wait)
        self.messages = list(messages)
        self.tools = as_tools(functions)
        self._functions = dict(zip((tool.name for tool in self.tools), functions, strict=True))
        self._max_steps = max_steps
        self._steps = 0

    def take(self, answer: Completion) -> tuple[ToolCall, ...]:
        """Add the model's answer; the calls it asks for. Raises ToolLimitError when it has asked often enough."""
        self._steps += 1
        self.messages.append(answer.message)
        if answer.tool_calls and self._steps == self._max_steps:
            raise ToolLimitError(
                f"After {self._steps} answers the model still calls tools: {answer.tool_calls[-1].name}.",
                messages=tuple(self.messages),
                hint="Raise max_steps, or see in the error's .messages what it keeps asking for.",
            )
        return answer.tool_calls

    def work(self, call: ToolCall) -> Callable[[], object]:
        """What does the call. Raises ValueError, in words for the model, when the call cannot be made."""
        function = self._functions.get(call.name)
        if function is None:
            raise ValueError(f"There is no tool '{call.name}'. {nearest(call.name, list(self._functions), 'Tools')}")
        return partial(_adapter(function).validate_python, ArgsKwargs((), dict(call.parsed())))

    def give(self, call: ToolCall, result: object) -> None:
        """Add a call's result: text as it is, an exception as its words, anything else as JSON."""
        if isinstance(result, ValidationError):
            result = f"Error: the arguments do not fit: {in_words(result)}."
        elif isinstance(result, Exception):
            result = f"Error: {type(result).__name__}: {result}"
        text = result if isinstance(result, str) else to_json(result, fallback=str).decode()
        self.messages.append(Message(role="tool", content=text, tool_call_id=call.id, name=call.name))


def _described(tool: ToolLike) -> Tool:
    if isinstance(tool, Tool):
        return tool
    name = getattr(tool, "__name__", "")
    if not name.isidentifier():
        raise InvalidRequestError(f"{tool!r} is no tool.", hint="Pass a Tool, a pydantic model or a named function.")
    try:
        schema = _schema(tool)
    except (PydanticUserError, NameError, TypeError) as error:
        reason = str(error).splitlines()[0]
        hint = "Annotate its parameters with types that JSON can carry."
        raise InvalidRequestError(f"The parameters of '{name}' cannot be described: {reason}", hint=hint) from error
    schema.pop("title", None)
    schema.pop("description", None)
    return Tool(name=name, description=_documentation(tool), parameters=schema)


def _schema(tool: type[BaseModel] | Callable[..., object]) -> dict[str, JsonValue]:
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        return tool.model_json_schema()
    kinds = {parameter.kind for parameter in inspect.signature(tool).parameters.values()}
    if kinds & {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        raise TypeError("every parameter must have a name that can be given (no *, ** or / ones)")
    return _adapter(tool).json_schema()


def _adapter(function: Callable[..., object]) -> TypeAdapter[object]:
    """Pydantic's own reading of a function: a schema of its arguments, and a call with arguments that were checked."""
    return TypeAdapter(cast("type[object]", function))


def _documentation(tool: type[BaseModel] | Callable[..., object]) -> str:
    """Its own docstring: a model without one would have its base class's."""
    return inspect.cleandoc(tool.__doc__ or "")


def _ensure_callable(function: object, *, wait: bool) -> None:
    if not callable(function) or isinstance(function, type):
        raise InvalidRequestError(
            f"{function!r} cannot be called for the model.", hint="Pass functions to run_tools; chat takes other tools."
        )
    if inspect.iscoroutinefunction(function) and not wait:
        raise InvalidRequestError(f"{function!r} is asynchronous.", hint="Use AsyncClient.run_tools.")
