"""Conversations, images and tools as OpenAI's protocol writes them, and the names and counts of its answers. Pure."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from llama4sdk.errors import InvalidRequestError, UnsupportedFeatureError
from llama4sdk.events import FinishReason, Usage
from llama4sdk.messages import ImagePart, Message
from llama4sdk.remote.json_fields import as_object, token_count
from llama4sdk.requests import Tool

Body = dict[str, JsonValue]

#: Servers' words for the end of an answer.
FINISH_REASONS: Final[Mapping[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


def chat_messages(messages: Sequence[Message], backend: str, *, image_urls: bool = True) -> list[JsonValue]:
    """Return the ``messages`` of a chat.

    Without ``image_urls`` only images given as bytes are sent. Raises InvalidRequestError for an image that cannot be
    sent or a tool's result that answers no call, UnsupportedFeatureError for images in a tool's result.
    """
    pending_calls: deque[str] = deque()
    return [_chat_message(message, pending_calls, backend, image_urls=image_urls) for message in messages]


def function_tool(tool: Tool) -> Body:
    """Return a tool as an entry of ``tools``; its parameters are always an object's schema."""
    function: Body = {"name": tool.name, "parameters": {"type": "object", "properties": {}, **tool.parameters}}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def image_format(data: bytes) -> str | None:
    """Return ``png``, ``jpeg``, ``gif`` or ``webp`` by the first bytes, else ``None``."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def parse_usage(usage: Mapping[str, Any]) -> Usage:
    """Return the counts of a ``usage`` object; ``None`` where it does not have them."""
    return Usage(
        input_tokens=token_count(usage, "prompt_tokens"),
        output_tokens=token_count(usage, "completion_tokens"),
        cached_tokens=token_count(as_object(usage.get("prompt_tokens_details")), "cached_tokens"),
    )


def _chat_message(message: Message, pending_calls: deque[str], backend: str, *, image_urls: bool) -> Body:
    named: Body = {"name": message.name} if message.name else {}
    if message.role == "tool":
        if message.has_images:
            raise UnsupportedFeatureError(backend, "images in a tool's result", hint="Put them in a user message.")
        return {"role": "tool", "tool_call_id": _answered_call(message, pending_calls), "content": message.text}
    if message.tool_calls:
        pending_calls.extend(call.id for call in message.tool_calls)
        calls: list[JsonValue] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        return {"role": message.role, **named, "content": message.text or None, "tool_calls": calls}
    if not message.has_images:
        return {"role": message.role, **named, "content": message.text}
    parts: list[JsonValue] = [
        {"type": "image_url", "image_url": {"url": _image_url(part, backend, allowed=image_urls)}}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": part.text}
        for part in message.parts
    ]
    return {"role": message.role, **named, "content": parts}


def _answered_call(message: Message, pending_calls: deque[str]) -> str:
    """Return the id of the call that a tool's result answers: the one it names, or the oldest without a result."""
    if message.tool_call_id is not None:
        if message.tool_call_id in pending_calls:
            pending_calls.remove(message.tool_call_id)
        return message.tool_call_id
    if not pending_calls:
        raise InvalidRequestError(
            "A tool message answers no call.", hint="Give it tool_call_id=, behind the message with that call."
        )
    return pending_calls.popleft()


def _image_url(image: ImagePart, backend: str, *, allowed: bool) -> str:
    if image.url is None:
        return _data_url(image)
    if not allowed:
        raise InvalidRequestError(
            f"The image has a url, and '{backend}' takes images as bytes.", hint="Fetch it yourself and pass data=."
        )
    if image.url.partition(":")[0].lower() not in ("http", "https", "data"):
        raise InvalidRequestError(
            f"An endpoint cannot fetch '{image.url[:60]}'.",
            hint="Pass http(s):// or data: urls, or ImagePart.from_path.",
        )
    return image.url


def _data_url(part: ImagePart) -> str:
    """Return an image's bytes as a ``data:`` URL. Raises InvalidRequestError where its format is not known."""
    data = part.data or b""
    kind = image_format(data)
    media_type = part.media_type or (f"image/{kind}" if kind else None)
    if media_type is None:
        raise InvalidRequestError(
            "An image is neither PNG, JPEG, GIF nor WebP.", hint="Convert it, or say what it is with media_type=."
        )
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
