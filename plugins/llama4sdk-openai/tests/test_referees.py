"""The vendors' own clients read the fake server: it shows nothing unless they can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from .fake_server import CONTEXT, KEY, MODEL, Fake, serving

openai: Any = pytest.importorskip("openai")
together: Any = pytest.importorskip("together")

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
MESSAGES = [{"role": "user", "content": "Grüße 🦙 an alle"}]


@pytest.fixture(params=["openai", "together"])
def vendor(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Fake]]:
    """A vendor's client, and the fake server with that vendor's dialect."""
    with serving("together" if request.param == "together" else "vllm") as fake:
        if request.param == "together":
            client = together.Together(api_key=KEY, base_url=f"{fake.url}/v1", max_retries=0)
        else:
            client = openai.OpenAI(api_key=KEY, base_url=f"{fake.url}/v1", max_retries=0)
        with client:
            yield client, fake


def test_a_chat(vendor: tuple[Any, Fake]) -> None:
    """Text, finish reason and counts."""
    client, _ = vendor
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert answer.choices[0].message.content == "Grüße 🦙 an alle"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (4, 4)


def test_a_stream(vendor: tuple[Any, Fake]) -> None:
    """The pieces make up the answer; the last has the finish reason."""
    client, _ = vendor
    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    choices = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(choice.delta.content or "" for choice in choices) == "Grüße 🦙 an alle"
    assert choices[-1].finish_reason in ("stop", "eos")


def test_tools(vendor: tuple[Any, Fake]) -> None:
    """A call whole, and in fragments."""
    client, _ = vendor
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[TOOL])
    call = whole.choices[0].message.tool_calls[0].function
    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, tools=[TOOL], stream=True))
    pieces = [piece.function for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()]
    assert call.name == pieces[0].name == "weather"
    assert (
        json.loads(call.arguments) == json.loads("".join(piece.arguments or "" for piece in pieces)) == {"city": "word"}
    )


def test_raw_text(vendor: tuple[Any, Fake]) -> None:
    """A completion ends at its limit."""
    client, _ = vendor
    answer = client.completions.create(model=MODEL, prompt="one two three", max_tokens=2)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("one two", "length")


def test_embeddings(vendor: tuple[Any, Fake]) -> None:
    """Vectors by their index; packed ones, which one of the clients asks for, are unpacked."""
    client, _ = vendor
    entries = client.embeddings.create(model=MODEL, input=["a", "eee"]).data
    vectors = {entry.index: entry.embedding for entry in entries}
    assert vectors[0][:2] == [1.0, 0.5]
    assert vectors[1][:2] == [3.0, 3.5]


def test_logprobs() -> None:
    """OpenAI's are a list of objects."""
    with serving() as fake, openai.OpenAI(api_key=KEY, base_url=f"{fake.url}/v1") as client:
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=True, top_logprobs=2)
    assert [entry.token for entry in answer.choices[0].logprobs.content] == ["Grüße", " 🦙", " an", " alle"]
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


def test_togethers_logprobs() -> None:
    """Together's are parallel arrays."""
    with serving("together") as fake, together.Together(api_key=KEY, base_url=f"{fake.url}/v1") as client:
        answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, logprobs=1)
    assert answer.choices[0].logprobs.tokens == ["Grüße", " 🦙", " an", " alle"]


def test_errors(vendor: tuple[Any, Fake]) -> None:
    """A prompt that is too long is a bad request with the same words; a wrong key is refused."""
    client, _ = vendor
    module = openai if isinstance(client, openai.OpenAI) else together
    with pytest.raises(module.BadRequestError, match=f"maximum context length is {CONTEXT}"):
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a " * 600}])
    with pytest.raises(module.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model=MODEL, messages=MESSAGES)


def test_an_error_within_a_stream(vendor: tuple[Any, Fake]) -> None:
    """It is raised although the status was 200."""
    client, fake = vendor
    fields = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    chunk = {**fields, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    fake.script = [json.dumps(chunk), json.dumps({"error": {"message": "the engine died", "code": 500}}), "[DONE]"]
    module = openai if isinstance(client, openai.OpenAI) else together
    with pytest.raises(module.APIError, match="the engine died"):
        list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
