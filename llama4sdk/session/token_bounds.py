"""Upper bounds of a request's tokens, computed without a tokenizer. Pure."""

from __future__ import annotations

import json
from typing import Final

from llama4sdk.messages import MAX_TILES, ImagePart, Message
from llama4sdk.planning.routing import Difficulty, RequestProfile
from llama4sdk.requests import EmbedRequest, Request

#: Tokens around a message at most: its role and control tokens.
MESSAGE_OVERHEAD_TOKENS: Final = 16
#: Tokens of the instructions before a list of tools at most; Meta's own template takes about 300.
TOOL_INSTRUCTIONS_TOKENS: Final = 1024
TOKENS_PER_TILE: Final = 147


def max_prompt_tokens(request: Request | EmbedRequest) -> int:
    """Tokens of the prompt at most: no tokenizer of Llama 4 makes two tokens of one byte."""
    if isinstance(request, EmbedRequest):
        return sum(MESSAGE_OVERHEAD_TOKENS + len(text.encode()) for text in request.inputs)
    if request.prompt is not None:
        return MESSAGE_OVERHEAD_TOKENS + len(request.prompt.encode())
    tools = sum(len(json.dumps(tool.model_dump(mode="json"), indent=4).encode()) for tool in request.tools)
    schema = len(request.constraint.model_dump_json().encode()) if request.constraint else 0
    messages = sum(map(_message_tokens, request.messages))
    return MESSAGE_OVERHEAD_TOKENS + messages + (tools and tools + TOOL_INSTRUCTIONS_TOKENS) + schema


def request_profile(request: Request, difficulty: Difficulty) -> RequestProfile:
    """The facts that a routing rule may choose a model by."""
    return RequestProfile(
        prompt_tokens=max_prompt_tokens(request),
        max_tokens=request.sampling.max_tokens or 0,
        images=sum(len(_images(message)) for message in request.messages),
        tools=0 if request.tool_choice == "none" else len(request.tools),
        difficulty=difficulty,
    )


def _message_tokens(message: Message) -> int:
    calls = sum(
        len(call.name.encode()) + len(call.arguments.encode()) + MESSAGE_OVERHEAD_TOKENS for call in message.tool_calls
    )
    return MESSAGE_OVERHEAD_TOKENS + calls + len(message.text.encode()) + sum(map(_image_tokens, _images(message)))


def _images(message: Message) -> list[ImagePart]:
    return [part for part in message.parts if isinstance(part, ImagePart)] if message.has_images else []


def _image_tokens(image: ImagePart) -> int:
    """Tokens of the image's tiles, and of the whole image once more where there are several."""
    tiles = image.max_tiles or MAX_TILES
    return TOKENS_PER_TILE * (tiles + (tiles > 1))
