"""Chat templates render as Hugging Face's own renderer does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import JsonValue
from transformers.utils.chat_template_utils import render_jinja_template

from llama4sdk.errors import CheckpointError, InvalidRequestError
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.messages import Message, ToolCall
from llama4sdk.requests import Tool

CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA4_LIKE = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.tool_calls is defined %}
        {{- '<|header_start|>assistant<|header_end|>' }}
        {%- for call in message.tool_calls %}
            {{- call.function | tojson(indent=2) }}
        {%- endfor %}
        {%- continue %}
    {%- endif %}
    {{- '<|header_start|>' + message['role'] + '<|header_end|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if tools is not none %}
    {{- tools | tojson }}
{%- endif %}
"""
CONVERSATIONS = [
    [{"role": "user", "content": "Hi"}],
    [{"role": "system", "content": "  Be brief.\n"}, {"role": "user", "content": "naïve <café> & 'quotes' 🦙"}],
    [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "{{ not a template }}"},
    ],
]


BEGIN = "<|begin_of_text|>"


def hugging_face(
    source: str, conversation: list[dict[str, Any]], *, prompted: bool = True, tools: list[dict[str, Any]] | None = None
) -> str:
    """The text that transformers renders."""
    functions: list[dict[Any, Any] | Callable[..., Any]] | None = None if tools is None else [*tools]
    rendered: object = render_jinja_template(
        [conversation], functions, chat_template=source, add_generation_prompt=prompted, bos_token=BEGIN
    )
    assert isinstance(rendered, tuple)
    return str(rendered[0][0])


@pytest.mark.parametrize("source", [CHATML, LLAMA4_LIKE])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("prompted", [True, False])
def test_equals_transformers(source: str, conversation: list[dict[str, str]], *, prompted: bool) -> None:
    """Rendering gives the text that Hugging Face's renderer gives."""
    expected = hugging_face(source, conversation, prompted=prompted)
    template = ChatTemplate(source, {"bos_token": BEGIN})
    messages = [Message.model_validate(message) for message in conversation]
    assert template.render(messages, add_generation_prompt=prompted) == expected


def test_tools_and_calls_equal_transformers() -> None:
    """Tool definitions, and calls with their arguments as an object, come out as Hugging Face writes them."""
    parameters: dict[str, JsonValue] = {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "<where>"}},
    }
    tool = Tool(name="weather", description="Now & here", parameters=parameters)
    call = ToolCall(id="c1", name="weather", arguments='{"city": "Köln"}')
    messages = [Message(role="user", content="?"), Message(role="assistant", tool_calls=(call,))]
    function = {"name": "weather", "arguments": {"city": "Köln"}}
    plain: list[dict[str, Any]] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
    ]
    definition = {"name": "weather", "description": "Now & here", "parameters": parameters}
    expected = hugging_face(LLAMA4_LIKE, plain, tools=[{"type": "function", "function": definition}])
    assert ChatTemplate(LLAMA4_LIKE, {"bos_token": BEGIN}).render(messages, tools=[tool]) == expected


def test_a_refusal_is_the_requests_fault() -> None:
    """``raise_exception`` becomes InvalidRequestError with the template's message."""
    template = ChatTemplate("{{ raise_exception('Only user messages') }}")
    with pytest.raises(InvalidRequestError, match="Only user messages"):
        template.render([Message(role="user", content="Hi")])


@pytest.mark.parametrize("source", ["{% if %}", "{{ messages[0].content.missing.deeper }}", "{{ 1 / 0 }}"])
def test_a_broken_template_is_the_checkpoints_fault(source: str) -> None:
    """A template that does not parse, or fails, raises CheckpointError."""
    with pytest.raises(CheckpointError, match="template"):
        ChatTemplate(source).render([Message(role="user", content="Hi")])


def test_a_template_cannot_reach_the_program() -> None:
    """The sandbox keeps a template from Python's internals."""
    with pytest.raises(CheckpointError, match="template"):
        ChatTemplate("{{ messages.__class__.__mro__ }}").render([Message(role="user", content="Hi")])
