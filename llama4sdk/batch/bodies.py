"""Bodies of OpenAI's batch files as arguments of ``chat`` or ``generate``, or an error for other options."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from pydantic import ValidationError

from llama4sdk._text import error_text
from llama4sdk.errors import InvalidRequestError, UnknownOptionError
from llama4sdk.requests import SamplingParams, Tool

SAME_OPTIONS: Final = ({"messages", "prompt", "model", "difficulty"} | set(SamplingParams.model_fields)) - {"logprobs"}
#: Options without an equivalent, with the values that change nothing.
NEUTRAL_OPTIONS: Final[dict[str, tuple[object, ...]]] = {
    "stream": (None, False),
    "n": (None, 1),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
}


def arguments_from_body(body: object) -> dict[str, object]:
    """The arguments of a request's ``body``. Raises InvalidRequestError or UnknownOptionError."""
    if not isinstance(body, Mapping):
        raise InvalidRequestError("Its body is no object.", hint="A line has custom_id and body.")
    try:
        return _arguments(body)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise InvalidRequestError(f"Its body is none of OpenAI's: {error_text(error)}.") from error


def _arguments(body: Mapping[str, Any]) -> dict[str, object]:
    arguments: dict[str, object] = {}
    for name, value in body.items():
        if name == "messages":
            arguments[name] = [_message(message) for message in value]
        elif name in SAME_OPTIONS:
            arguments[name] = value
        elif name == "max_completion_tokens":
            arguments["max_tokens"] = value
        elif name == "tools":
            arguments[name] = [_tool(tool) for tool in value]
        elif name == "tool_choice":
            arguments[name] = value if isinstance(value, str) else value["function"]["name"]
        elif name == "response_format":
            arguments |= _schema_argument(value)
        elif name == "top_logprobs":
            arguments["logprobs"] = value
        elif name == "logprobs":
            if value is True:
                arguments.setdefault("logprobs", body.get("top_logprobs") or 0)
        elif name not in NEUTRAL_OPTIONS or value not in NEUTRAL_OPTIONS[name]:
            raise UnknownOptionError(f"Its body has {name}={value!r:.40}, which chat has no option for.")
    return arguments


def _tool(tool: Mapping[str, Any]) -> Tool:
    function = tool["function"]
    return Tool(
        name=function["name"],
        description=function.get("description") or "",
        parameters=function.get("parameters") or {},
    )


def _schema_argument(form: Mapping[str, Any]) -> dict[str, object]:
    if form["type"] == "text":
        return {}
    if form["type"] == "json_schema":
        return {"schema": form["json_schema"]["schema"]}
    raise InvalidRequestError(f"Its response_format is '{form['type']}'.", hint="Say which JSON, with json_schema.")


def _message(message: Mapping[str, Any]) -> dict[str, object]:
    fields: dict[str, object] = {"role": "system" if message["role"] == "developer" else message["role"]}
    content = message.get("content")
    fields["content"] = [_part(part) for part in content] if isinstance(content, list) else content or ""
    if calls := cast("Sequence[Mapping[str, Any]]", message.get("tool_calls") or ()):
        fields["tool_calls"] = [
            {"id": call["id"], "name": call["function"]["name"], "arguments": call["function"]["arguments"]}
            for call in calls
        ]
    return fields | {name: message[name] for name in ("tool_call_id", "name") if message.get(name) is not None}


def _part(part: Mapping[str, Any]) -> dict[str, object]:
    if part["type"] != "image_url":
        return dict(part)
    url = part["image_url"]["url"]
    if not url.startswith("data:"):
        return {"type": "image", "url": url}
    head, _, text = url.partition(",")
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise InvalidRequestError("An image's data is no base64.") from error
    return {"type": "image", "data": data, "media_type": head.removeprefix("data:").partition(";")[0]}
