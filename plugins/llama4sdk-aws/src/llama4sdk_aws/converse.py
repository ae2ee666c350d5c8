"""Bodies of Converse and ConverseStream. Pure."""

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
from llama4sdk_aws.images import MAX_IMAGES, image_block
from llama4sdk_aws.options import BedrockOptions

Block = dict[str, JsonValue]

TOOL_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOOL_ID: Final = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
ANY_OBJECT_SCHEMA: Final[dict[str, JsonValue]] = {"type": "object", "properties": {}}


def converse_body(request: Request, options: BedrockOptions, *, stream: bool, stops: bool = True) -> Block:
    """Return the body. Without ``stops`` the reader of the answer looks for stop strings instead.

    Raises InvalidRequestError for what Bedrock would refuse.
    """
    fields: Block = {
        "inferenceConfig": _inference_config(request, stops=stops),
        "guardrailConfig": _guardrail_config(options, stream=stream),
        "additionalModelRequestFields": options.additional_fields,
        "requestMetadata": dict(options.request_metadata),
        "performanceConfig": options.latency and {"latency": options.latency},
        "serviceTier": options.service_tier and {"type": options.service_tier},
    }
    return _conversation(request) | {name: value for name, value in fields.items() if value}


def counting_body(request: Request) -> dict[str, JsonValue]:
    """Return the body that counts a conversation's tokens."""
    return {"input": {"converse": _conversation(request)}}


def has_tools(request: Request) -> bool:
    """Whether the request has tools, or earlier calls, which Bedrock treats the same."""
    return bool(request.tools) or any(message.tool_calls or message.role == "tool" for message in request.messages)


def check_sampling(request: Request) -> None:
    """Raise InvalidRequestError for values that Bedrock would refuse."""
    temperature = request.sampling.temperature
    if temperature is not None and temperature > 1:
        raise InvalidRequestError(
            f"temperature is {temperature:g}; Bedrock takes 0 to 1.", hint="Lower it, or lower top_p instead."
        )


def _inference_config(request: Request, *, stops: bool) -> Block:
    check_sampling(request)
    sampling = request.sampling
    config: Block = {
        "maxTokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "topP": sampling.top_p,
        "stopSequences": list(sampling.stop) if stops and sampling.stop else None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _guardrail_config(options: BedrockOptions, *, stream: bool) -> Block:
    if options.guardrail_id is None:
        return {}
    config: Block = {
        "guardrailIdentifier": options.guardrail_id,
        "guardrailVersion": options.guardrail_version,
        "trace": options.trace,
        "streamProcessingMode": options.guardrail_stream if stream else None,
    }
    return {name: value for name, value in config.items() if value is not None}


def _conversation(request: Request) -> dict[str, JsonValue]:
    """Return messages, system texts and tools."""
    roles = [message.role for message in request.messages]
    start = next((index for index, role in enumerate(roles) if role != "system"), len(roles))
    system, rest = request.messages[:start], request.messages[start:]
    if any(message.role == "system" for message in rest):
        raise InvalidRequestError(
            "A system message stands behind other messages; Bedrock takes them in front only.",
            hint="Move it to the beginning, or make it a user message.",
        )
    if any(message.has_images for message in system):
        raise InvalidRequestError("A system message has an image.", hint="Put it into a user message.")
    body: dict[str, JsonValue] = {"messages": list(_alternating_messages(rest))}
    if texts := [message.text for message in system if message.text.strip()]:
        body["system"] = [{"text": text} for text in texts]
    if has_tools(request):
        body["toolConfig"] = {"tools": [_tool(tool) for tool in request.tools or _called_tools(rest)]}
    return body


def _alternating_messages(messages: Iterable[Message]) -> Iterator[JsonValue]:
    """Merge consecutive messages of one side: the sides must alternate, and a user's message comes first."""
    is_first = True
    for role, group in groupby(messages, lambda message: "assistant" if message.role == "assistant" else "user"):
        content = [block for message in group for block in _blocks(message)]
        if not content:
            continue
        if is_first and role != "user":
            raise InvalidRequestError(
                "The conversation begins with an answer.", hint="On Bedrock it begins with a user message."
            )
        is_first = False
        if sum("image" in block for block in content) > MAX_IMAGES:
            raise InvalidRequestError(
                f"A message has more than {MAX_IMAGES} images, which is what Bedrock takes.",
                hint="Send fewer.",
            )
        yield {"role": role, "content": list[JsonValue](content)}
    if is_first:
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
    spec: Block = {"name": tool.name, "inputSchema": {"json": tool.parameters or ANY_OBJECT_SCHEMA}}
    if tool.description.strip():
        spec["description"] = tool.description
    return {"toolSpec": spec}


def _called_tools(messages: Iterable[Message]) -> list[Tool]:
    """Return the tools that earlier calls name: Bedrock refuses a conversation with calls and without tools."""
    names = {call.name: None for message in messages for call in message.tool_calls}
    return [Tool(name=name) for name in names] or [Tool(name="tool")]


def _tool_id(call_id: str) -> str:
    """Return a call's id in a form that Bedrock allows, always the same for the same id."""
    if TOOL_ID.fullmatch(call_id):
        return call_id
    return f"call_{hashlib.sha256(call_id.encode()).hexdigest()[:32]}"
