"""What a request may cost at most, known without a tokenizer and before it is sent. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from llama4sdk.messages import ImagePart
from llama4sdk.planning.routing import Difficulty, RequestProfile

if TYPE_CHECKING:
    from llama4sdk.messages import Message
    from llama4sdk.requests import EmbedRequest, Request

__all__ = ["as_ask", "most_embedded", "most_prompt_tokens"]

FRAME: Final = 16
"""Tokens around a message at most: its role, its marks."""
PREAMBLE: Final = 1024
"""What a template says before it lists tools, at most; Meta's own says it in about 300."""
TILE: Final = 147
MOST_TILES: Final = 16


def most_prompt_tokens(request: Request) -> int:
    """Tokens of the prompt at most: no tokenizer of Llama 4 makes two of one byte."""
    if request.prompt is not None:
        return FRAME + len(request.prompt.encode())
    tools = sum(len(json.dumps(tool.model_dump(mode="json"), indent=4).encode()) for tool in request.tools)
    shape = len(request.constraint.model_dump_json().encode()) if request.constraint else 0
    return FRAME + sum(map(_of_message, request.messages)) + (tools and tools + PREAMBLE) + shape


def most_embedded(request: EmbedRequest) -> int:
    """The same of texts to embed."""
    return sum(FRAME + len(text.encode()) for text in request.inputs)


def as_ask(request: Request, difficulty: Difficulty) -> RequestProfile:
    """What a rule may know of a request."""
    parts = [part for message in request.messages if message.has_images for part in message.parts]
    return RequestProfile(
        prompt_tokens=most_prompt_tokens(request),
        max_tokens=request.sampling.max_tokens or 0,
        images=sum(isinstance(part, ImagePart) for part in parts),
        tools=0 if request.tool_choice == "none" else len(request.tools),
        difficulty=difficulty,
    )


def _of_message(message: Message) -> int:
    calls = sum(len(call.name.encode()) + len(call.arguments.encode()) + FRAME for call in message.tool_calls)
    return FRAME + calls + len(message.text.encode()) + sum(map(_of_image, _images(message)))


def _images(message: Message) -> list[ImagePart]:
    return [part for part in message.parts if isinstance(part, ImagePart)] if message.has_images else []


def _of_image(image: ImagePart) -> int:
    """Its tiles, and the whole once more where there are several."""
    tiles = image.max_tiles or MOST_TILES
    return TILE * (tiles + (tiles > 1))
