"""Chat templates: how a checkpoint wants a conversation written down."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import JsonValue

from llama4sdk.errors import CheckpointError, InvalidRequestError
from llama4sdk.messages import Message, TextPart
from llama4sdk.requests import Tool

__all__ = ["ChatTemplate"]


class ChatTemplate:
    """A Jinja template in a sandbox, with the variables and filters Hugging Face templates expect.

    Raises CheckpointError when the template itself is no valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        """``special_tokens`` are the names a template may use, such as ``bos_token``."""
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise CheckpointError(f"The checkpoint's chat template is no valid template: {error}.") from error

    @property
    def takes_tools(self) -> bool:
        """Whether it looks at ``tools`` at all."""
        return re.search(r"\btools\b", self.source) is not None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        add_generation_prompt: bool = True,
        escape: Callable[[str], str] = str,
    ) -> str:
        """The conversation as one text, with the template's own mark where an image is, ready for the answer.

        ``escape`` is applied to every string that comes from the messages and tools, but not to the template's own.
        Raises InvalidRequestError when the template refuses the messages, CheckpointError when it fails.
        """
        known = [_message(message) for message in messages]
        apart = bool(tools) and self._loses_images(known)
        if apart and known[0]["role"] != "system":
            known.insert(0, {"role": "system", "content": ""})
        try:
            return self._template.render(
                messages=[_escaped(message, escape) for message in known],
                tools=[_escaped(_tool(tool), escape) for tool in tools] or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.special_tokens,
                **({_SWITCH: False} if apart else {}),
            )
        except _RefusedError as error:
            raise InvalidRequestError(f"The model's chat template refuses these messages: {error.message}") from error
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise CheckpointError(f"The checkpoint's chat template failed on these messages: {error}.") from error

    def _loses_images(self, known: Sequence[Mapping[str, JsonValue]]) -> bool:
        """Llama 4's published template describes tools within the first user message, whose images it then loses.

        It has a switch that moves the tools into the system message, if there is one.
        """
        first = next((message for message in known if message["role"] != "system"), {})
        return _SWITCH in self.source and isinstance(first.get("content"), list)


_SWITCH: Final = "tools_in_user_message"


class _RefusedError(jinja2.TemplateError):
    """The template called ``raise_exception``."""


def _refuse(message: str) -> NoReturn:
    raise _RefusedError(message)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment


def _tojson(
    value: JsonValue,
    ensure_ascii: bool = False,  # noqa: FBT001, FBT002  (templates pass it by position, too)
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,  # noqa: FBT001, FBT002
) -> str:
    """Plain JSON: Jinja's own filter escapes HTML, which a model would read."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _message(message: Message) -> dict[str, JsonValue]:
    """As templates know it. An empty ``tool_calls`` is left out: Llama 4's template drops such a message whole."""
    known: dict[str, JsonValue] = {"role": message.role, "content": _content(message)}
    if message.tool_calls:
        known["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        known["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        known["name"] = message.name
    return known


def _content(message: Message) -> JsonValue:
    """Text, or parts where there are images: templates put their own mark in an image's place."""
    if not message.has_images:
        return message.text
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in message.parts
    ]


def _arguments(text: str) -> JsonValue:
    """A model may have written no JSON; then the template gets its text."""
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return text
    return value


def _tool(tool: Tool) -> dict[str, JsonValue]:
    return {"type": "function", "function": tool.model_dump(mode="json")}


def _escaped(value: JsonValue, escape: Callable[[str], str]) -> JsonValue:
    """The same structure with every string in it escaped, keys included."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {escape(key): _escaped(item, escape) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item, escape) for item in value]
    return value
