"""Requests from the client to the server's answer and back."""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from llama4sdk import AsyncClient, Client, ImagePart, Message, TextPart, Tool, ToolCall
from llama4sdk.endpoint import Endpoint, RetryPolicy
from llama4sdk.errors import (
    APIStatusError,
    ContextLengthError,
    InvalidRequestError,
    Llama4Error,
    ModelLoadError,
    OverloadedError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from llama4sdk.testing.machines import LAPTOP

from .fake_server import ABLE, SCOUT, TOO_LONG, Fake

Connect = Callable[..., Client]

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301010018dd8db0"
    "0000000049454e44ae426082"
)
WEATHER = Tool(name="weather", description="The weather.", parameters={"properties": {"city": {"type": "string"}}})
AT_ONCE = Endpoint(retry=RetryPolicy(base=0.001, throttled=0.001, retries=1))


def last(fake: Fake, path: str = "/api/chat") -> dict[str, Any]:
    return fake.bodies(path)[-1]


def test_a_chat_has_ollamas_names_of_options(connect: Connect, fake: Fake) -> None:
    """Options have Ollama's names, nothing else is sent, and nothing may be cut or shifted."""
    client = connect(ABLE)
    sampling = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "min_p": 0.1, "seed": 3, "max_tokens": 9}
    client.chat("Hello there", repetition_penalty=1.1, stop=["x", "y"], logprobs=2, **sampling)  # type: ignore[arg-type]
    body = last(fake)
    assert body["options"] == {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 7,
        "min_p": 0.1,
        "seed": 3,
        "num_predict": 9,
        "repeat_penalty": 1.1,
        "repeat_last_n": -1,
        "stop": ["x", "y"],
        "num_ctx": 4096,
    }
    assert (body["truncate"], body["shift"], body["stream"]) == (False, False, True)
    assert (body["logprobs"], body["top_logprobs"]) == (True, 2)
    client.chat("Hello there")
    assert last(fake)["options"] == {"num_predict": 4095, "num_ctx": 4096}
    assert set(last(fake)) == {"model", "shift", "options", "stream", "truncate", "messages"}


def test_raw_text_has_no_template(connect: Connect, fake: Fake) -> None:
    """``generate`` continues the unchanged text."""
    assert connect().generate("Once upon", max_tokens=3).text == " goes on: Once"
    body = last(fake, "/api/generate")
    assert (body["prompt"], body["raw"], "messages" in body) == ("Once upon", True, False)


def test_images_are_sent_beside_the_text(connect: Connect, fake: Fake) -> None:
    """They are base64; a URL is refused before anything is sent."""
    client = connect()
    parts = (TextPart(text="What is"), ImagePart(data=PNG), TextPart(text=" this?"))
    client.chat(Message(role="user", content=parts))
    (message,) = last(fake)["messages"]
    assert message == {"role": "user", "content": "What is this?", "images": [base64.b64encode(PNG).decode()]}
    with pytest.raises(InvalidRequestError, match="not their addresses"):
        client.chat(Message(role="user", content=(ImagePart(url="https://example.com/a.png"),)))


@pytest.mark.parametrize("old", [False, True])
def test_tools_are_called(connect: Connect, fake: Fake, old: bool) -> None:
    """Arguments become JSON text; calls without an id get one that no earlier call has; results go back with names."""
    fake.truncates = old
    client = connect()
    first = client.chat("call it", tools=[WEATHER, WEATHER.model_copy(update={"name": "time"})])
    assert first.finish_reason == "tool_calls"
    assert [(call.name, call.arguments) for call in first.tool_calls] == [
        ("weather", '{"city": "Zürich", "days": 0}'),
        ("time", '{"city": "Zürich", "days": 1}'),
    ]
    ids = [call.id for call in first.tool_calls]
    assert ids == (["call_0", "call_1"] if old else ["call_abcdefg0", "call_abcdefg1"])
    result = Message(role="tool", content="rain", tool_call_id=ids[1])
    second = client.chat([Message(role="user", content="call it"), first.message, result], tools=[WEATHER])
    assert second.text.startswith("You said this to me: rain")
    _, assistant, tool_message = last(fake)["messages"]
    assert assistant["tool_calls"][1]["function"] == {
        "index": 1,
        "name": "time",
        "arguments": {"city": "Zürich", "days": 1},
    }
    assert tool_message == {"role": "tool", "content": "rain", "tool_name": "time", "tool_call_id": ids[1]}
    assert last(fake)["tools"][0]["function"]["parameters"]["type"] == "object"
    if old:
        messages = [Message(role="user", content="one"), first.message, Message(role="user", content="call")]
        assert [call.id for call in client.chat(messages, tools=[WEATHER]).tool_calls] == ["call_2"]


def test_a_call_that_is_no_object_is_refused(connect: Connect) -> None:
    """Ollama's protocol takes objects alone."""
    broken = Message(role="assistant", tool_calls=(ToolCall(id="1", name="weather", arguments="[1"),))
    with pytest.raises(InvalidRequestError, match="no JSON object"):
        connect().chat([Message(role="user", content="Hello"), broken, Message(role="user", content="And?")])


def test_an_answer_follows_its_schema(connect: Connect, fake: Fake) -> None:
    """The schema is sent, and the answer is an instance of the type."""

    class Llama(BaseModel):
        age: int

    assert connect().chat("A llama, please.", schema=Llama).parsed == Llama(age=0)
    assert last(fake)["format"]["properties"]["age"]["type"] == "integer"


def test_logprobs_come_with_the_text(connect: Connect) -> None:
    """Each token has its own logprob, and those of alternatives."""
    answer = connect(ABLE).chat("Hello", logprobs=1, max_tokens=2)
    assert [(entry.token, entry.logprob, entry.top[0].logprob) for entry in answer.logprobs] == [
        ("You", -0.25, -0.5),
        (" said", -0.25, -0.5),
    ]


def test_vectors_have_length_one(connect: Connect) -> None:
    """Rounded vectors are normalized; pooling and unnormalized vectors are refused."""
    client = connect(ABLE)
    answer = client.embed(["one", "two words"])
    assert all(math.hypot(*vector) == pytest.approx(1, abs=1e-12) for vector in answer.vectors)
    assert (answer.model, answer.backend, answer.usage.input_tokens) == (ABLE, "ollama", 3)
    with pytest.raises(UnsupportedFeatureError, match="pooling='last'"):
        client.embed("one", pooling="last")
    with pytest.raises(UnsupportedFeatureError, match="normalize=False"):
        client.embed("one", normalize=False)
    with pytest.raises(ContextLengthError) as caught:
        client.embed("word " * 5000)
    assert (caught.value.limit, caught.value.requested) == (4096, 4500)


def test_prompts_that_cannot_fit_are_not_sent(connect: Connect, fake: Fake) -> None:
    """Nearly every word has a token, a long one several, and max_tokens counts too."""
    client = connect(ABLE)
    for prompt, max_tokens in (("llama " * 4600, None), ("abcdefghijklmnop" * 4600, None), ("llama " * 4000, 500)):
        with pytest.raises(ContextLengthError) as caught:
            client.chat(prompt, max_tokens=max_tokens)
        assert caught.value.limit == 4096
        assert (caught.value.requested or 0) > 4096
    assert not fake.bodies("/api/chat")
    assert client.chat(f"{'-' * 200} " * 600).text  # a run of one character may be a token


def test_the_servers_refusal_of_a_long_prompt_is_a_context_error(connect: Connect, fake: Fake) -> None:
    """The error has the server's words and the limit."""
    fake.tokens_per_word = 1.5
    with pytest.raises(ContextLengthError, match="longer than the context") as caught:
        connect(ABLE).chat("llama " * 3500)
    assert caught.value.limit == 4096
    assert TOO_LONG[:30] in caught.value.message


@pytest.mark.parametrize("fills_context", [False, True])
def test_a_silently_cut_prompt_is_an_error(connect: Connect, fake: Fake, fills_context: bool) -> None:
    """Servers before 0.12.6 cut to half the context, or to all of it; prompts that fit are answered."""
    fake.version, fake.truncates, fake.fills_context, fake.tokens_per_word = "0.12.0", True, fills_context, 1.3
    client = connect(ABLE)
    with pytest.raises(
        ContextLengthError, match="all that its context holds" if fills_context else "dropped the rest"
    ) as caught:
        client.chat("llama " * 3500)
    assert caught.value.limit == 4096
    assert (caught.value.requested or 0) >= 3150
    assert client.chat("llama " * 2500).usage.input_tokens == int(2504 * 1.3)


@pytest.mark.parametrize(
    ("status", "error", "kind", "match"),
    [
        (400, '"x" does not support tools', UnsupportedFeatureError, "tools"),
        (500, "model requires more system memory (80 GiB) than is available (8 GiB)", ModelLoadError, "80 GiB"),
        (500, "llama runner process has terminated", APIStatusError, "terminated"),
        (400, "invalid option", APIStatusError, "invalid option"),
    ],
)
def test_ollamas_errors_are_the_sdks(
    connect: Connect, fake: Fake, status: int, error: str, kind: type[Llama4Error], match: str
) -> None:
    """Each of Ollama's errors has a type of the SDK."""
    client = connect(endpoint=AT_ONCE).load()
    fake.refusals = [(status, {"error": error})] * 2
    with pytest.raises(kind, match=match) as caught:
        client.chat("Hello")
    assert caught.value.hint or kind is APIStatusError


def test_a_full_queue_is_retried(connect: Connect, fake: Fake) -> None:
    """It is an overloaded server."""
    client = connect(endpoint=AT_ONCE).load()
    busy = (503, {"error": "server busy, please try again.  maximum pending requests exceeded"})
    fake.refusals = [busy]
    answer = client.chat("Hello")
    assert [attempt.error is None for attempt in answer.attempts] == [False, True]
    fake.refusals = [busy, busy]
    with pytest.raises(OverloadedError):
        client.chat("Hello")


@pytest.mark.parametrize("path", ["chat", "generate"])
def test_an_error_within_an_answer_ends_it(connect: Connect, fake: Fake, path: str) -> None:
    """The error has the partial answer; one about the context is a ContextLengthError."""
    client = connect().load()
    piece = b'{"message":{"role":"assistant","content":"Hel"},"response":"Hel","done":false}\n'
    fake.lines = [piece, b'{"error":"an error was encountered while running the model"}\n']
    with pytest.raises(APIStatusError, match="while running the model") as caught:
        getattr(client, path)("Hello")
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hel"
    fake.lines = [piece, b'{"error":"context length exceeded"}\n']
    with pytest.raises(ContextLengthError):
        getattr(client, path)("Hello")
    fake.lines = [piece]
    with pytest.raises(StreamInterruptedError):
        getattr(client, path)("Hello")


def test_asynchronous_answers_are_the_same(fake: Fake) -> None:
    """Concurrent answers, and errors of cut prompts."""
    fake.truncates, fake.tokens_per_word = True, 1.3

    async def ask() -> None:
        async with AsyncClient(SCOUT, backend="ollama", context_length=4096, hardware=LAPTOP) as client:
            answers = await asyncio.gather(*(client.chat(f"Hello {n}") for n in range(20)))
            assert [f"Hello {n} " in answer.text for n, answer in enumerate(answers)] == [True] * 20
            with pytest.raises(ContextLengthError):
                await client.chat("llama " * 3500)

    asyncio.run(ask())
    assert fake.loads == 1
