"""The bound on a prompt's tokens is never below the count of Llama 4's tokenizer and prompt format."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama4sdk.llama4.images.canvas import choose_canvas, place_images
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.requests import Request, Tool
from llama4sdk.session.token_bounds import max_prompt_tokens
from tests.llama4.test_prompt_format import CALLS, PLAIN, WEATHER

RARE = Tool(name="f", description="🦙" * 40, parameters={"type": "object", "properties": {"ѣ": {"type": "string"}}})


def tokens(ours: Tokenizer, request: Request) -> int:
    """The number of tokens that a local engine counts."""
    return len(ours.encode_chat(Llama4Prompt(), list(request.messages), tools=list(request.tools)))


@pytest.mark.parametrize("messages", [*PLAIN, *CALLS])
@pytest.mark.parametrize("tools", [(), (WEATHER,), (WEATHER, RARE)])
def test_no_conversation_has_more(ours: Tokenizer, messages: list[Message], tools: tuple[Tool, ...]) -> None:
    """No conversation, with tools, calls and results, has more tokens than the bound."""
    request = Request(messages=tuple(messages), tools=tools)
    assert tokens(ours, request) <= max_prompt_tokens(request)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_no_text_has_more(ours: Tokenizer, texts: list[str]) -> None:
    """No text has more tokens than the bound."""
    request = Request(messages=tuple(Message(role="user", content=text) for text in texts))
    assert tokens(ours, request) <= max_prompt_tokens(request)


@pytest.mark.parametrize(("height", "width"), [(336, 336), (1344, 1344), (5376, 336), (336, 5376), (900, 2000)])
def test_no_image_has_more(ours: Tokenizer, height: int, width: int) -> None:
    """No image has more tokens than the bound, whatever the limit of tiles."""
    image = ImagePart(data=b"it is not looked at")
    message = Message(role="user", content=(image, TextPart(text="?")))
    ids = ours.encode_chat(Llama4Prompt(), [message])
    placed = place_images(ids, [choose_canvas(height, width, max_tiles=16)], ours.control, patches=144)
    assert len(placed) <= max_prompt_tokens(Request(messages=(message,)))
