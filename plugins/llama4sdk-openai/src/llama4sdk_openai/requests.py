"""Requests as the JSON that OpenAI's protocol has for them. Pure."""

from __future__ import annotations

import json
from collections import deque
from typing import Final

from pydantic import JsonValue

from llama4sdk.catalog.endpoint_tables import Listing
from llama4sdk.constraints import JsonSchema
from llama4sdk.errors import ContextLengthError, InvalidRequestError, UnsupportedFeatureError
from llama4sdk.messages import ImagePart, Message
from llama4sdk.remote.data_urls import data_url
from llama4sdk.requests import Request, SamplingParams, Tool
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import Profile
from llama4sdk_openai.structured_output import constraint_fields

__all__ = ["chat_body", "completion_body", "dumped", "messages"]

Body = dict[str, JsonValue]

PLAIN: Final = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")
MARGIN: Final = 16
"""Tokens that a server may put before a prompt."""
LEAST_ROOM: Final = 16


def chat_body(
    request: Request, profile: Profile, model: str, context: int, listing: Listing | None, options: Options
) -> Body:
    """The body of ``/chat/completions``. Raises what cannot be asked there, before anything is sent."""
    body: Body = {"model": model, "messages": messages(request, profile, listing)}
    body |= _sampling(request.sampling, profile, context, listing)
    if request.sampling.logprobs is not None:
        body |= _logprobs(request, profile)
    if request.tools:
        body |= _tools(request, profile)
    if request.constraint is not None:
        body |= constraint_fields(request.constraint, profile, chat=True)
    return body | profile.chat_body | _routed(profile, options) | options.extra_body


def completion_body(
    request: Request, profile: Profile, model: str, context: int, listing: Listing | None, options: Options
) -> Body:
    """The body of ``/completions``, likewise."""
    prompt = request.prompt or ""
    body: Body = {"model": model, "prompt": prompt}
    body |= _sampling(request.sampling, profile, context, listing)
    if request.sampling.max_tokens is None:
        body |= _limit(prompt, profile, context, listing)
    if request.sampling.logprobs is not None:
        if not profile.completion_logprobs:
            raise UnsupportedFeatureError(profile.name, "logprobs of raw text", hint="Use chat.")
        body["logprobs"] = max(1, _top(request.sampling.logprobs, profile))
    if request.constraint is not None:
        body |= constraint_fields(request.constraint, profile, chat=False)
    return body | profile.completion_body | _routed(profile, options) | options.extra_body


def _routed(profile: Profile, options: Options) -> Body:
    """OpenRouter's order of providers, on top of the rule that they honour every parameter."""
    if not isinstance(options.provider, dict):
        return {}
    rule = profile.chat_body.get("provider")
    return {"provider": {**(rule if isinstance(rule, dict) else {}), **options.provider}}


def _sampling(sampling: SamplingParams, profile: Profile, context: int, listing: Listing | None) -> Body:
    body: Body = {}
    if sampling.max_tokens is not None and sampling.max_tokens >= context:
        raise ContextLengthError(
            f"max_tokens={sampling.max_tokens} leaves no room for a prompt in the context of {context}.",
            limit=context,
            requested=sampling.max_tokens + 1,
            hint="Lower max_tokens, or use an endpoint with a longer context.",
        )
    hottest = listing.max_temperature if listing else None
    if hottest is not None and (sampling.temperature or 0) > hottest:
        raise InvalidRequestError(
            f"temperature is {sampling.temperature}; '{profile.name}' takes at most {hottest:g}.",
            hint="Lower it; the endpoint would refuse the request.",
        )
    for name in PLAIN:
        value: float | None = getattr(sampling, name)
        if value is not None and profile.neutral.get(name) != value:
            body[profile.names.get(name, name)] = value
            body |= profile.beside.get(name, {})
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _logprobs(request: Request, profile: Profile) -> Body:
    if request.tools and not profile.logprobs_with_tools:
        raise UnsupportedFeatureError(profile.name, "logprobs together with tools", hint="Ask for one of them.")
    top = _top(request.sampling.logprobs or 0, profile)
    if profile.logprobs == "integer":
        return {"logprobs": max(1, top)}
    return {"logprobs": True, "top_logprobs": top}


def _top(asked: int, profile: Profile) -> int:
    if asked > profile.max_logprobs:
        limit = f"It gives those of {profile.max_logprobs} alternatives at most."
        raise UnsupportedFeatureError(profile.name, f"logprobs={asked}", hint=limit)
    return asked


def _limit(prompt: str, profile: Profile, context: int, listing: Listing | None) -> Body:
    """What stands for "all that is left": servers end raw text after 16 tokens or so unless they are told more."""
    room = context - len(prompt.encode()) - MARGIN  # no tokenizer makes more tokens than there are bytes
    if listing is not None and listing.max_output is not None:
        room = min(room, listing.max_output)
    return {"max_tokens": room} if profile.completion_limit == "room" and room >= LEAST_ROOM else {}


def _tools(request: Request, profile: Profile) -> Body:
    choice = request.tool_choice
    named = choice not in ("auto", "none", "required")
    tools = request.forced_calls if named and not profile.names_tools else request.tools
    described: list[JsonValue] = [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]
    if request.forced_calls and not profile.forces_calls:
        schema = JsonSchema(definition={"anyOf": [_called(tool) for tool in request.forced_calls]})
        return {"tools": described, "tool_choice": "none", **constraint_fields(schema, profile, chat=True)}
    if not named:
        return {"tools": described, "tool_choice": choice}
    if not profile.names_tools:
        return {"tools": described, "tool_choice": "required"}
    return {"tools": described, "tool_choice": {"type": "function", "function": {"name": choice}}}


def _called(tool: Tool) -> Body:
    """The schema of one call."""
    arguments = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def messages(request: Request, profile: Profile, listing: Listing | None) -> list[JsonValue]:
    """The conversation. Raises UnsupportedFeatureError for images that cannot be sent."""
    images = sum(isinstance(part, ImagePart) for message in request.messages for part in message.parts)
    most = listing.max_images if listing else None
    if most is not None and images > most:
        raise UnsupportedFeatureError(profile.name, f"{images} images in one request", hint=f"It takes {most} at most.")
    waiting: deque[str] = deque()
    return [_message(message, waiting, profile) for message in request.messages]


def _message(message: Message, waiting: deque[str], profile: Profile) -> Body:
    named: Body = {"name": message.name} if message.name else {}
    if message.role == "tool":
        if message.has_images:
            raise UnsupportedFeatureError(profile.name, "images in a tool's result", hint="Put them in a user message.")
        return {"role": "tool", "tool_call_id": _answered(message, waiting), "content": message.text}
    if message.tool_calls:
        waiting.extend(call.id for call in message.tool_calls)
        calls: list[JsonValue] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
        return {"role": message.role, **named, "content": message.text or None, "tool_calls": calls}
    if not message.has_images:
        return {"role": message.role, **named, "content": message.text}
    parts: list[JsonValue] = [
        {"type": "image_url", "image_url": {"url": _address(part)}}
        if isinstance(part, ImagePart)
        else {"type": "text", "text": part.text}
        for part in message.parts
    ]
    return {"role": message.role, **named, "content": parts}


def _answered(message: Message, waiting: deque[str]) -> str:
    """The call that a tool's result answers: the one it names, or the oldest without an answer."""
    if message.tool_call_id is not None:
        if message.tool_call_id in waiting:
            waiting.remove(message.tool_call_id)
        return message.tool_call_id
    if not waiting:
        raise InvalidRequestError(
            "A tool message answers no call.", hint="Give it tool_call_id=, behind the message with that call."
        )
    return waiting.popleft()


def _address(image: ImagePart) -> str:
    if image.url is not None:
        if image.url.partition(":")[0].lower() not in ("http", "https", "data"):
            raise InvalidRequestError(
                f"An endpoint cannot fetch '{image.url[:60]}'.",
                hint="Pass http(s):// or data: urls, or ImagePart.from_path.",
            )
        return image.url
    url = data_url(image)
    if url is None:
        raise InvalidRequestError(
            "An image is neither PNG, JPEG, GIF nor WebP.", hint="Convert it, or say what it is with media_type=."
        )
    return url


def dumped(body: Body) -> bytes:
    """The bytes to send. Raises InvalidRequestError for text with half characters."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            "The request has halves of characters, which no encoding can carry.", hint="Look where its text is cut."
        ) from error
