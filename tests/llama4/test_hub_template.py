"""Hugging Face's own Llama 4 template, as transformers ships it: rendered as transformers does, and where it differs.

The differences are those that docs/prompt-format.md lists, each by its name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.llama4.processing_llama4 import chat_template
from transformers.utils.chat_template_utils import render_jinja_template

from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.messages import ImagePart, Message, TextPart, ToolCall
from llama4sdk.requests import Tool

BEGIN = "<|begin_of_text|>"
HUB = ChatTemplate(str(chat_template), {"bos_token": BEGIN})
IMAGE = ImagePart(data=b"png")
WEATHER = Tool(name="get_weather", description="Now & here", parameters={"type": "object", "properties": {"<a>": {}}})

TEXT = st.text(alphabet=st.sampled_from("ab 1\n<|>{}'\"éß🦙"), min_size=1, max_size=8)
PARTS = st.lists(TEXT.map(lambda text: TextPart(text=text)) | st.just(IMAGE), min_size=1, max_size=4).map(tuple)
VALUES = st.none() | st.booleans() | st.integers() | TEXT
CALL = st.builds(
    lambda name, arguments: ToolCall(id="call_0", name=name, arguments=json.dumps(arguments)),
    st.sampled_from(["get_weather", "f"]),
    st.dictionaries(TEXT, VALUES | st.lists(VALUES, max_size=2), max_size=2),
)
SYSTEM = TEXT.map(lambda text: Message(role="system", content=text))
USER = (TEXT | PARTS).map(lambda content: Message(role="user", content=content))
PLAIN = USER | TEXT.map(lambda text: Message(role="assistant", content=text))
CALLING = st.builds(
    lambda text, calls: Message(role="assistant", content=text, tool_calls=tuple(calls)),
    st.just("") | TEXT,
    st.lists(CALL, min_size=1, max_size=2),
)
RESULT = TEXT.map(lambda text: Message(role="tool", content=text, tool_call_id="call_0", name="f"))


def conversations(
    messages: st.SearchStrategy[Message], first: st.SearchStrategy[Message] = USER
) -> st.SearchStrategy[list[Message]]:
    """Conversations with and without a system message."""
    opening: st.SearchStrategy[list[Message]] = st.just([]) | SYSTEM.map(lambda message: [message])
    parts = st.tuples(opening, first.map(lambda message: [message]), st.lists(messages, max_size=4))
    return parts.map(lambda lists: [*lists[0], *lists[1], *lists[2]])


def as_transformers_has_it(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The conversation as the dicts that transformers takes."""
    entries: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.has_images:
            entry["content"] = [
                {"type": "text", "text": part.text} if isinstance(part, TextPart) else {"type": "image"}
                for part in message.parts
            ]
        if message.tool_calls:
            entry["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.parsed()}}
                for call in message.tool_calls
            ]
        entries.append(entry)
    return entries


def transformers(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
    """The text that transformers renders."""
    described: list[Any] = [{"type": "function", "function": tool.model_dump()} for tool in tools]
    rendered: Any = render_jinja_template(
        [as_transformers_has_it(messages)],
        described or None,
        chat_template=str(chat_template),
        add_generation_prompt=True,
        bos_token=BEGIN,
    )
    return str(rendered[0][0])


@settings(max_examples=150, deadline=None)
@given(conversations(PLAIN | CALLING | RESULT))
def test_any_conversation_is_rendered_as_transformers_does(messages: list[Message]) -> None:
    """System, user and assistant messages, images, calls and results: the published template gives the same text."""
    assert HUB.render(messages) == transformers(messages)


@settings(max_examples=100, deadline=None)
@given(conversations(PLAIN | CALLING | RESULT, TEXT.map(lambda text: Message(role="user", content=text))))
def test_tools_are_described_as_transformers_does(messages: list[Message]) -> None:
    """With tools, prompts are equal as long as the first user message is text."""
    assert HUB.render(messages, tools=[WEATHER, Tool(name="f")]) == transformers(messages, [WEATHER, Tool(name="f")])


@settings(max_examples=150, deadline=None)
@given(conversations(PLAIN))
def test_without_tools_llama4prompt_writes_the_same_text(messages: list[Message]) -> None:
    """Plain conversations with images have the same text, except that the template strips the system message."""
    if messages[0].role == "system":
        messages = [Message(role="system", content=f"S{messages[0].text}S"), *messages[1:]]
    assert Llama4Prompt().render(messages) == HUB.render(messages)


def both(*messages: Message, tools: Sequence[Tool] = ()) -> tuple[str, str]:
    """Our prompt and the template's, without the common beginning and end."""
    ours = Llama4Prompt().render(messages, tools=tools, add_generation_prompt=False)
    theirs = HUB.render(messages, tools=tools, add_generation_prompt=False)
    return ours.removeprefix(BEGIN), theirs.removeprefix(BEGIN)


def header(role: str) -> str:
    return f"<|header_start|>{role}<|header_end|>\n\n"


USERS = Message(role="user", content="?")


def test_difference_system_message() -> None:
    """Llama4Prompt keeps the space around a system message, the template strips it."""
    ours, theirs = both(Message(role="system", content=" S\n"))
    assert ours == f"{header('system')} S\n<|eot|>"
    assert theirs == f"{header('system')}S<|eot|>"


def test_difference_text_that_begins_with_a_line_break(ours: Tokenizer) -> None:
    """Both write the same text, but Llama4Prompt encodes it apart from its header, with other ids."""
    messages = [Message(role="user", content="\n\nHi")]
    assert Llama4Prompt().render(messages) == HUB.render(messages)
    separate, joined = ours.encode_chat(Llama4Prompt(), messages), ours.encode_chat(HUB, messages)
    assert separate != joined
    assert ours.decode(separate) == ours.decode(joined)


def test_difference_calls_and_their_end() -> None:
    """Llama4Prompt writes a list of calls and ``<|eom|>``, the template marked text, JSON and ``<|eot|>``."""
    call = ToolCall(id="c", name="f", arguments='{"a": "b"}')
    ours, theirs = both(Message(role="assistant", content="So: ", tool_calls=(call, call)))
    assert ours == f'{header("assistant")}So: [f(a="b"), f(a="b")]<|eom|>'
    written = '{"name": "f", "parameters": {"a": "b"}}'
    assert theirs == f"{header('assistant')}<|python_start|>So: <|python_end|>{written}{written}<|eot|>"


def test_difference_results() -> None:
    """Llama4Prompt writes a text result as it is, the template as quoted JSON."""
    ours, theirs = both(USERS, Message(role="tool", content='{"rain": 0}'))
    assert ours.endswith(f'{header("ipython")}{{"rain": 0}}<|eom|>')
    assert theirs.endswith(f'{header("ipython")}"{{\\"rain\\": 0}}"<|eot|>')


def test_difference_where_tools_are_described() -> None:
    """Llama4Prompt describes tools in the system message, the template in the first user message."""
    ours, theirs = both(Message(role="system", content="S"), USERS, tools=[WEATHER])
    assert "get_weather" in ours.split("<|eot|>")[0]
    assert theirs.startswith(f"{header('system')}Environment: ipython\nS<|eot|>{header('user')}Given the following")
    assert "Environment" not in ours


@pytest.mark.parametrize("system", [[], [Message(role="system", content="S")]], ids=["no-system", "system"])
def test_tools_do_not_hide_images(system: list[Message]) -> None:
    """Images of the first message are kept when tools are described, by a switch of the template."""
    messages = [*system, Message(role="user", content=(TextPart(text="Here: "), IMAGE))]
    assert "<|image|>" not in transformers(messages, [WEATHER])
    text = HUB.render(messages, tools=[WEATHER], add_generation_prompt=False)
    first, second, end = text.split("<|eot|>")
    assert first.startswith(f"{BEGIN}{header('system')}Environment: ipython\n")
    assert "get_weather" in first
    assert first.endswith("S" if system else "\n\n")
    assert (second, end) == (f"{header('user')}Here: <|image|>", "")
