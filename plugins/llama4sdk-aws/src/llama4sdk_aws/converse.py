"""Requests as the body of Converse and ConverseStream. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from pydantic import JsonValue

from llama4sdk.errors import InvalidRequestError
from llama4sdk.messages import Message, TextPart, ToolCall
from llama4sdk.requests import Request, Tool
from llama4sdk_aws.images import MOST_IMAGES, image_block
from llama4sdk_aws.options import BedrockOptions

__all__ = ["converse_body", "counting_body", "has_tools"]

Block = dict[str, JsonValue]

TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
ANY_OBJECT: Final[dict[str, JsonValue]] = {"type": "object", "properties": {}}


def converse_body(request: Request, options: BedrockOptions, *, stream: bool, stops: bool = True) -> Block:
    """What is sent. Without ``stops`` stop strings are left to the reader of the answer.

    Raises InvalidRequestError for what Bedrock would refuse.
    """
    body = _conversation(request)
    if settings := _sampling(request, stops=stops):
        body["inferenceConfig"] = settings
    if options.guardrail_id is not None:
        guardrail: Block = {
            "guardrailIdentifier": options.guardrail_id,
            "guardrailVersion": options.guardrail_version,
        }
        if options.trace is not None:
            guardrail["trace"] = options.trace
        if stream and options.guardrail_stream is not None:
            guardrail["streamProcessingMode"] = options.guardrail_stream
        body["guardrailConfig"] = guardrail
    if options.additional_fields:
        body["additionalModelRequestFields"] = options.additional_fields
    if options.request_metadata:
        body["requestMetadata"] = dict(options.request_metadata)
    if options.latency is not None:
        body["performanceConfig"] = {"latency": options.latency}
    if options.service_tier is not None:
        body["serviceTier"] = {"type": options.service_tier}
    return body


def counting_body(request: Request) -> dict[str, JsonValue]:
    """What is counted of a conversation."""
    return {"input": {"converse": _conversation(request)}}


def has_tools(request: Request) -> bool:
    """Whether tools are offered, or were used before, which Bedrock takes for the same."""
    return bool(request.tools) or any(message.tool_calls or message.role == "tool" for message in request.messages)


def check_sampling(request: Request) -> None:
    """Raise InvalidRequestError for values that Bedrock would refuse."""
    temperature = request.sampling.temperature
    if temperature is not None and temperature > 1:
        raise InvalidRequestError(
            f"temperature is {temperature:g}; Bedrock takes 0 to 1.", hint="Lower it, or lower top_p instead."
        )


def _sampling(request: Request, *, stops: bool) -> Block:
    check_sampling(request)
    sampling, settings = request.sampling, Block()
    if sampling.max_tokens is not None:
        settings["maxTokens"] = sampling.max_tokens
    if sampling.temperature is not None:
        settings["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        settings["topP"] = sampling.top_p
    if stops and sampling.stop:
        settings["stopSequences"] = list(sampling.stop)
    return settings


def _conversation(request: Request) -> dict[str, JsonValue]:
    """Messages, what comes before them, and tools."""
    begin = next((n for n, message in enumerate(request.messages) if message.role != "system"), len(request.messages))
    system, rest = request.messages[:begin], request.messages[begin:]
    if any(message.role == "system" for message in rest):
        raise InvalidRequestError(
            "A system message stands behind other messages; Bedrock takes them in front only.",
            hint="Move it to the beginning, or make it a user message.",
        )
    if any(message.has_images for message in system):
        raise InvalidRequestError("A system message has an image.", hint="Put it into a user message.")
    body: dict[str, JsonValue] = {"messages": list(_turns(rest))}
    if texts := [message.text for message in system if message.text.strip()]:
        body["system"] = [{"text": text} for text in texts]
    if has_tools(request):
        body["toolConfig"] = {"tools": [_tool(tool) for tool in request.tools or _tools_of(rest)]}
    return body


def _turns(messages: Iterable[Message]) -> Iterator[JsonValue]:
    """Messages of one side in a row become one: the sides must take turns, and a user's comes first."""
    first = True
    for role, group in groupby(messages, lambda message: "assistant" if message.role == "assistant" else "user"):
        turn = list(group)
        content = [block for message in turn for block in _blocks(message)]
        if not content:
            continue
        if first and role != "user":
            raise InvalidRequestError(
                "The conversation begins with an answer.", hint="On Bedrock it begins with a user message."
            )
        first = False
        if sum("image" in block for block in content) > MOST_IMAGES:
            raise InvalidRequestError(
                f"A message has more than {MOST_IMAGES} images, which is what Bedrock takes.", hint="Send fewer."
            )
        yield {"role": role, "content": list[JsonValue](content)}
    if first:
        raise InvalidRequestError("There is nothing to answer.", hint="Send a user message that is not blank.")


def _blocks(message: Message) -> Iterator[Block]:
    parts: list[Block] = [
        {"text": part.text} if isinstance(part, TextPart) else image_block(part)
        for part in message.parts
        if not isinstance(part, TextPart) or part.text.strip()  # blank text is refused
    ]
    if message.role == "tool":
        if message.tool_call_id is None:
            raise InvalidRequestError("A tool's result does not say of which call.", hint="Set tool_call_id.")
        yield {"toolResult": {"toolUseId": _tool_id(message.tool_call_id), "content": list[JsonValue](parts)}}
        return
    yield from parts
    for call in message.tool_calls:
        yield {"toolUse": {"toolUseId": _tool_id(call.id), "name": call.name, "input": _arguments(call)}}


def _arguments(call: ToolCall) -> JsonValue:
    try:
        return call.parsed() if call.arguments.strip() else {}
    except ValueError as error:
        raise InvalidRequestError(
            f"Bedrock takes tool calls with a JSON object for arguments: {error}.",
            hint="Leave the call and its result out of the conversation, or correct its arguments.",
        ) from error


def _tool(tool: Tool) -> JsonValue:
    if not TOOL_NAME.fullmatch(tool.name):
        raise InvalidRequestError(
            f"Bedrock takes no tool of the name '{tool.name}'.",
            hint="Use up to 64 letters, digits, hyphens and underscores.",
        )
    spec: Block = {"name": tool.name, "inputSchema": {"json": tool.parameters or ANY_OBJECT}}
    if tool.description.strip():
        spec["description"] = tool.description
    return {"toolSpec": spec}


def _tools_of(messages: Iterable[Message]) -> list[Tool]:
    """Those that earlier calls name: a conversation with calls is refused without any."""
    names = {call.name: None for message in messages for call in message.tool_calls}
    return [Tool(name=name) for name in names] or [Tool(name="tool")]


def _tool_id(name: str) -> str:
    """An id of another endpoint's making, as Bedrock allows it; always the same for the same."""
    if TOOL_ID.fullmatch(name):
        return name
    return f"call_{hashlib.sha256(name.encode()).hexdigest()[:32]}"
