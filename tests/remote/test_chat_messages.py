"""Conversations and tools are written as OpenAI's protocol has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llama4sdk.errors import InvalidRequestError, UnsupportedFeatureError
from llama4sdk.messages import ImagePart, Message, TextPart, ToolCall
from llama4sdk.remote.chat_messages import chat_messages, function_tool
from llama4sdk.requests import Tool

PNG = b"\x89PNG\r\n\x1a\n and so on"
QUESTION = Message(role="user", content="?")


def written(*messages: Message, image_urls: bool = True) -> list[Any]:
    """The messages as a server reads them."""
    value = json.loads(json.dumps(chat_messages(messages, "server", image_urls=image_urls)))
    assert isinstance(value, list)
    return value


def test_results_answer_the_oldest_call_without_one() -> None:
    """A result names its call, or answers the calls in their order."""
    calls = tuple(ToolCall(id=f"c{number}", name="now", arguments="{}") for number in range(3))
    results = [
        Message(role="tool", content="1", tool_call_id="c1"),
        Message(role="tool", content="0"),
        Message(role="tool", content="2"),
    ]
    _, answer, *rest = written(QUESTION, Message(role="assistant", tool_calls=calls), *results)
    assert answer["content"] is None
    assert [call["function"] for call in answer["tool_calls"]] == [{"name": "now", "arguments": "{}"}] * 3
    assert [entry["tool_call_id"] for entry in rest] == ["c1", "c0", "c2"]
    with pytest.raises(InvalidRequestError, match="answers no call"):
        written(QUESTION, Message(role="tool", content="1"))


def test_images_are_urls_or_data() -> None:
    """Bytes become data: URLs of their format; web addresses pass where the server can fetch them."""
    message = Message(role="user", content=(TextPart(text="a"), ImagePart(data=PNG), ImagePart(url="https://x/y.png")))
    ((text, data, url),) = (entry["content"] for entry in written(message))
    assert text == {"type": "text", "text": "a"}
    assert data["image_url"]["url"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert url["image_url"]["url"] == "https://x/y.png"
    with pytest.raises(InvalidRequestError, match="takes images as bytes"):
        written(message, image_urls=False)


@pytest.mark.parametrize("image", [ImagePart(url="file:///etc/passwd"), ImagePart(data=b"text")])
def test_images_that_no_server_could_read_are_refused(image: ImagePart) -> None:
    """Local files and unknown formats are not sent."""
    with pytest.raises(InvalidRequestError):
        written(Message(role="user", content=(image,)))


def test_images_in_results_are_refused() -> None:
    """The protocol has text alone in a tool's result."""
    result = Message(role="tool", content=(ImagePart(data=PNG),), tool_call_id="c")
    with pytest.raises(UnsupportedFeatureError, match="images in a tool's result"):
        written(QUESTION, result)


def test_a_tools_parameters_are_an_objects_schema() -> None:
    """A tool without parameters takes an empty object."""
    empty = {"type": "object", "properties": {}}
    assert function_tool(Tool(name="now")) == {"type": "function", "function": {"name": "now", "parameters": empty}}
    schema: dict[str, Any] = {"properties": {"city": {"type": "string"}}}
    function = function_tool(Tool(name="now", description="The time.", parameters=schema))["function"]
    assert function == {"name": "now", "description": "The time.", "parameters": empty | schema}
