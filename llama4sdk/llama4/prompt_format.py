r"""Llama 4's own prompt format, as Meta writes it, for checkpoints without a chat template.

    <|begin_of_text|>                                            once
    <|header_start|>ROLE<|header_end|>\n\n CONTENT <|eot|>       for every message; a tool's result has role ipython
    <|header_start|>assistant<|header_end|>\n\n                  for the answer

``<|eom|>`` instead of ``<|eot|>`` ends messages that the same turn continues: tool calls, and tools' results.
Differences from other renderings are listed in docs/prompt-format.md.
"""

from __future__ import annotations

import json
import keyword
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from pydantic import JsonValue

from llama4sdk.messages import ImagePart, Message, ToolCall
from llama4sdk.requests import Tool

ToolStyle: TypeAlias = Literal["pythonic", "json"]


class Control(NamedTuple):
    """A control token, given by its name."""

    name: str


#: A control token, or text that is encoded by itself, in which no control token is recognized.
Piece: TypeAlias = str | Control

BEGIN: Final = Control("<|begin_of_text|>")
HEADER: Final = Control("<|header_start|>")
HEADER_END: Final = Control("<|header_end|>")
IMAGE: Final = Control("<|image|>")
END_OF_TURN: Final = Control("<|eot|>")
END_OF_MESSAGE: Final = Control("<|eom|>")

TOOL_RULES: Final = (
    "Give every required parameter, and ask for those you were not told. When no function helps, answer in plain "
    "words. What a function returns comes back in a message of ipython: use it.\n\nThe functions, in JSON:\n\n"
)
PYTHONIC_INSTRUCTIONS: Final = (
    "You can call functions. To call one or more of them, reply with the calls alone, in exactly this form:\n"
    "[func_name1(param_name1=param_value1, param_name2=param_value2), func_name2(param_name1=param_value1)]\n"
    + TOOL_RULES
)
JSON_INSTRUCTIONS: Final = (
    "You can call functions. To call one, reply with the call alone, in exactly this form:\n"
    '{"name": function name, "parameters": dictionary of argument name and its value}\n'
    "Do not use variables. " + TOOL_RULES
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama4Prompt:
    """Renders conversations in Llama 4's format. ``tool_style`` is the syntax requested for tool calls."""

    tool_style: ToolStyle = "pythonic"

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), add_generation_prompt: bool = True
    ) -> str:
        """Render the prompt as one text for display; only ``pieces`` tells control tokens from text."""
        pieces = self.pieces(messages, tools=tools, add_generation_prompt=add_generation_prompt)
        return "".join(piece.name if isinstance(piece, Control) else piece for piece in pieces)

    def pieces(
        self, messages: Sequence[Message], *, tools: Sequence[Tool] = (), add_generation_prompt: bool = True
    ) -> Iterator[Piece]:
        """Render the prompt as the pieces that Meta's reference encodes one by one.

        Tools are described at the end of the system message, or in a new one. An image is one ``<|image|>``.
        """
        yield BEGIN
        rest = list(messages)
        if tools:
            system = [rest.pop(0)] if rest and rest[0].role == "system" else []
            yield from _header("system")
            for message in system:
                yield from (*_content(message), "\n\n")
            yield self._describe_tools(tools)
            yield END_OF_TURN
        for message in rest:
            yield from self._message(message)
        if add_generation_prompt:
            yield from _header("assistant")

    def _message(self, message: Message) -> Iterator[Piece]:
        yield from _header("ipython" if message.role == "tool" else message.role)
        yield from _content(message)
        if message.tool_calls and self.tool_style == "pythonic":
            yield f"[{', '.join(map(_python_call, message.tool_calls))}]"
        elif message.tool_calls:
            yield from map(_json_call, message.tool_calls)
        yield END_OF_MESSAGE if message.tool_calls or message.role == "tool" else END_OF_TURN

    def _describe_tools(self, tools: Sequence[Tool]) -> str:
        if self.tool_style == "pythonic":
            return PYTHONIC_INSTRUCTIONS + _format_json([_zero_shot_schema(tool) for tool in tools])
        functions: list[JsonValue] = [{"type": "function", "function": tool.model_dump(mode="json")} for tool in tools]
        return JSON_INSTRUCTIONS + "\n\n".join(map(_format_json, functions))


def _header(role: str) -> Iterator[Piece]:
    yield from (HEADER, role, HEADER_END, "\n\n")


def _content(message: Message) -> Iterator[Piece]:
    for part in message.parts:
        yield IMAGE if isinstance(part, ImagePart) else part.text


def _zero_shot_schema(tool: Tool) -> JsonValue:
    """A function as in Meta's zero-shot prompts, whose schema has the type ``dict``."""
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters | {"type": "dict"}}


def _format_json(value: JsonValue) -> str:
    return json.dumps(value, indent=4, ensure_ascii=False)


def _json_call(call: ToolCall) -> str:
    return json.dumps({"type": "function", "name": call.name, "parameters": _arguments(call)})


def _python_call(call: ToolCall) -> str:
    arguments = _arguments(call)
    if not isinstance(arguments, dict):
        return f"{call.name}({call.arguments})"
    return f"{call.name}({', '.join(map(_python_argument, arguments, arguments.values()))})"


def _python_argument(name: str, value: JsonValue) -> str:
    # Python normalizes identifiers to NFKC, which may be another name.
    if name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name:
        return f"{name}={_literal(value)}"
    return f"**{{{_literal(name)}: {_literal(value)}}}"


def _literal(value: JsonValue) -> str:
    """A JSON value as a Python literal; every JSON string is one."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(item)}' for key, item in value.items())}}}"
    return str(value)


def _arguments(call: ToolCall) -> JsonValue:
    """The arguments as an object, or as text if the model wrote no JSON object."""
    try:
        return call.parsed()
    except ValueError:
        return call.arguments
