"""Python functions as tools: described by their signatures, and called when the model asks for it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias, cast

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import ArgsKwargs, to_json

from llama4sdk._text import error_text, in_words, nearest
from llama4sdk.errors import InvalidRequestError, ToolLimitError
from llama4sdk.messages import Message, ToolCall
from llama4sdk.requests import Tool
from llama4sdk.results import Completion

__all__ = ["ToolLike", "ToolRun", "as_tools"]

#: A tool, a pydantic model whose fields are the arguments, or a function with annotated parameters.
ToolLike: TypeAlias = Tool | type[BaseModel] | Callable[..., object]


def as_tools(tools: Sequence[ToolLike]) -> tuple[Tool, ...]:
    """The description of each tool. Raises InvalidRequestError for tools without a schema or of the same name."""
    described = tuple(map(_as_tool, tools))
    names = [tool.name for tool in described]
    if duplicates := {name for name in names if names.count(name) > 1}:
        raise InvalidRequestError(f"Two tools are named '{min(duplicates)}'.", hint="Give every tool its own name.")
    return described


class ToolRun:
    """A conversation in which tools are called until the model answers without a call. Does no I/O.

    ``messages`` are the conversation so far, ``tools`` the descriptions of the functions.
    """

    def __init__(
        self, messages: Sequence[Message], functions: Sequence[Callable[..., object]], max_steps: int, *, wait: bool
    ) -> None:
        """``wait`` permits asynchronous functions. Raises InvalidRequestError for anything that is no function."""
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

    def add_answer(self, answer: Completion) -> tuple[ToolCall, ...]:
        """Append the model's answer and return the calls it asks for. Raises ToolLimitError at the step limit."""
        self._steps += 1
        self.messages.append(answer.message)
        if answer.tool_calls and self._steps == self._max_steps:
            raise ToolLimitError(
                f"After {self._steps} answers the model still calls tools: {answer.tool_calls[-1].name}.",
                messages=tuple(self.messages),
                hint="Raise max_steps, or see in the error's .messages what it keeps asking for.",
            )
        return answer.tool_calls

    def bind(self, call: ToolCall) -> Callable[[], object]:
        """The function with the call's arguments, validated when it is called.

        Raises ValueError with a text for the model where there is no such function or the arguments are no JSON object.
        """
        function = self._functions.get(call.name)
        if function is None:
            raise ValueError(f"There is no tool '{call.name}'. {nearest(call.name, list(self._functions), 'Tools')}")
        return partial(_adapter(function).validate_python, ArgsKwargs((), dict(call.parsed())))

    def add_result(self, call: ToolCall, result: object) -> None:
        """Append a call's result: text as it is, an exception as its text, anything else as JSON."""
        if isinstance(result, ValidationError):
            result = f"Error: the arguments do not fit: {in_words(result)}."
        elif isinstance(result, Exception):
            result = f"Error: {error_text(result)}"
        text = result if isinstance(result, str) else to_json(result, fallback=str).decode()
        self.messages.append(Message(role="tool", content=text, tool_call_id=call.id, name=call.name))


def _as_tool(tool: ToolLike) -> Tool:
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
    own_docstring = inspect.cleandoc(tool.__doc__ or "")  # not one inherited from a base class, as getdoc returns it
    return Tool(name=name, description=own_docstring, parameters=schema)


def _schema(tool: type[BaseModel] | Callable[..., object]) -> dict[str, JsonValue]:
    if isinstance(tool, type) and issubclass(tool, BaseModel):
        return tool.model_json_schema()
    kinds = {parameter.kind for parameter in inspect.signature(tool).parameters.values()}
    if kinds & {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        raise TypeError("every parameter must have a name that can be given (no *, ** or / ones)")
    return _adapter(tool).json_schema()


def _adapter(function: Callable[..., object]) -> TypeAdapter[object]:
    """Pydantic's adapter of a function: the schema of its arguments, and calls with validated arguments."""
    return TypeAdapter(cast("type[object]", function))


def _ensure_callable(function: object, *, wait: bool) -> None:
    if not callable(function) or isinstance(function, type):
        raise InvalidRequestError(
            f"{function!r} cannot be called for the model.", hint="Pass functions to run_tools; chat takes other tools."
        )
    if inspect.iscoroutinefunction(function) and not wait:
        raise InvalidRequestError(f"{function!r} is asynchronous.", hint="Use AsyncClient.run_tools.")
