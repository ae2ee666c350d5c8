"""Chat templates: Jinja templates of checkpoints that render a conversation as a prompt."""

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

TOOLS_SWITCH: Final = "tools_in_user_message"


class ChatTemplate:
    """A Jinja template in a sandbox, with the variables and filters Hugging Face templates expect.

    Raises CheckpointError when the template itself is no valid Jinja.
    """

    def __init__(self, source: str, special_tokens: Mapping[str, str] | None = None) -> None:
        """``special_tokens`` are variables of the template, such as ``bos_token``."""
        self.source = source
        self.special_tokens = dict(special_tokens or {})
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise CheckpointError(f"The checkpoint's chat template is no valid template: {error}.") from error

    @property
    def takes_tools(self) -> bool:
        """Whether the template uses ``tools``."""
        return re.search(r"\btools\b", self.source) is not None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] = (),
        add_generation_prompt: bool = True,
        escape: Callable[[str], str] = str,
    ) -> str:
        """Render the conversation as one text, in which the template marks images, ready for the answer.

        ``escape`` is applied to every string from messages and tools, but not to the template's own text.
        Raises InvalidRequestError when the template refuses the messages, CheckpointError when it fails.
        """
        entries = [_message(message) for message in messages]
        functions: list[JsonValue] = [{"type": "function", "function": tool.model_dump(mode="json")} for tool in tools]
        tools_in_system = bool(tools) and self._loses_images(entries)
        if tools_in_system and entries[0]["role"] != "system":
            entries.insert(0, {"role": "system", "content": ""})
        try:
            return self._template.render(
                messages=[_escape_strings(message, escape) for message in entries],
                tools=[_escape_strings(tool, escape) for tool in functions] or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.special_tokens,
                **({TOOLS_SWITCH: False} if tools_in_system else {}),
            )
        except _RefusedError as error:
            raise InvalidRequestError(f"The model's chat template refuses these messages: {error.message}") from error
        except (jinja2.TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise CheckpointError(f"The checkpoint's chat template failed on these messages: {error}.") from error

    def _loses_images(self, entries: Sequence[Mapping[str, JsonValue]]) -> bool:
        """Whether the template drops images of the first user message, as Llama 4's does when it describes tools there.

        It has a switch that moves the tools into the system message, if there is one.
        """
        first = next((message for message in entries if message["role"] != "system"), {})
        return TOOLS_SWITCH in self.source and isinstance(first.get("content"), list)


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
    """Plain JSON: Jinja's own filter would escape HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _message(message: Message) -> dict[str, JsonValue]:
    """The message as templates expect it, without empty ``tool_calls``: Llama 4's template would drop it."""
    entry: dict[str, JsonValue] = {"role": message.role, "content": _content(message)}
    if message.tool_calls:
        entry["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        entry["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        entry["name"] = message.name
    return entry


def _content(message: Message) -> JsonValue:
    """Text, or parts if there are images, which the template marks."""
    if not message.has_images:
        return message.text
    return [
        {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
        for part in message.parts
    ]


def _arguments(text: str) -> JsonValue:
    """The arguments as JSON, or as text if the model wrote no valid JSON."""
    try:
        value: JsonValue = json.loads(text)
    except ValueError:
        return text
    return value


def _escape_strings(value: JsonValue, escape: Callable[[str], str]) -> JsonValue:
    """Apply ``escape`` to every string of a JSON value, keys included."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, dict):
        return {escape(key): _escape_strings(item, escape) for key, item in value.items()}
    if isinstance(value, list):
        return [_escape_strings(item, escape) for item in value]
    return value
