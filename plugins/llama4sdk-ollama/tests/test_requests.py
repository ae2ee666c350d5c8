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
    return fake.of(path)[-1]


def test_a_chat_says_everything_as_ollama_has_it(connect: Connect, fake: Fake) -> None:
    """Names of options, nothing that was not asked for, and no cutting or shifting."""
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
    """``generate`` continues it as it is."""
    assert connect().generate("Once upon", max_tokens=3).text == " goes on: Once"
    body = last(fake, "/api/generate")
    assert (body["prompt"], body["raw"], "messages" in body) == ("Once upon", True, False)


def test_images_are_sent_beside_the_text(connect: Connect, fake: Fake) -> None:
    """As base64 alone; an address is refused before anything is sent."""
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
    again = client.chat([Message(role="user", content="call it"), first.message, result], tools=[WEATHER])
    assert again.text.startswith("You said this to me: rain")
    _, assistant, told = last(fake)["messages"]
    assert assistant["tool_calls"][1]["function"] == {
        "index": 1,
        "name": "time",
        "arguments": {"city": "Zürich", "days": 1},
    }
    assert told == {"role": "tool", "content": "rain", "tool_name": "time", "tool_call_id": ids[1]}
    assert last(fake)["tools"][0]["function"]["parameters"]["type"] == "object"
    if old:
        messages = [Message(role="user", content="one"), first.message, Message(role="user", content="call")]
        assert [call.id for call in client.chat(messages, tools=[WEATHER]).tool_calls] == ["call_2"]


def test_a_call_that_is_no_object_is_refused(connect: Connect) -> None:
    """Ollama's protocol has no place for it."""
    broken = Message(role="assistant", tool_calls=(ToolCall(id="1", name="weather", arguments="[1"),))
    with pytest.raises(InvalidRequestError, match="no JSON object"):
        connect().chat([Message(role="user", content="Hello"), broken, Message(role="user", content="And?")])


def test_an_answer_is_of_its_schema(connect: Connect, fake: Fake) -> None:
    """The schema goes along, and the answer is read as the type."""

    class Llama(BaseModel):
        age: int

    assert connect().chat("A llama, please.", schema=Llama).parsed == Llama(age=0)
    assert last(fake)["format"]["properties"]["age"]["type"] == "integer"


def test_likelihoods_come_with_the_text(connect: Connect) -> None:
    """Each token's own, and the alternatives'."""
    answer = connect(ABLE).chat("Hello", logprobs=1, max_tokens=2)
    assert [(entry.token, entry.logprob, entry.top[0].logprob) for entry in answer.logprobs] == [
        ("You", -0.25, -0.5),
        (" said", -0.25, -0.5),
    ]


def test_vectors_have_length_one(connect: Connect) -> None:
    """What the server rounds is made right; what it decides by itself is not promised."""
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


def test_what_cannot_fit_is_refused_before_it_is_sent(connect: Connect, fake: Fake) -> None:
    """Nearly every word has a token, a long one several; what is to be written counts."""
    client = connect(ABLE)
    for prompt, most in (("llama " * 4600, None), ("abcdefghijklmnop" * 4600, None), ("llama " * 4000, 500)):
        with pytest.raises(ContextLengthError) as caught:
            client.chat(prompt, max_tokens=most)
        assert caught.value.limit == 4096
        assert (caught.value.requested or 0) > 4096
    assert not fake.of("/api/chat")
    assert client.chat(f"{'-' * 200} " * 600).text  # a row of one sign may be a token


def test_what_the_server_refuses_as_too_long_is_a_context_error(connect: Connect, fake: Fake) -> None:
    """In its own words, with the limit."""
    fake.per_word = 1.5
    with pytest.raises(ContextLengthError, match="longer than the context") as caught:
        connect(ABLE).chat("llama " * 3500)
    assert caught.value.limit == 4096
    assert TOO_LONG[:30] in caught.value.message


@pytest.mark.parametrize("keeps_all", [False, True])
def test_a_prompt_that_is_cut_in_silence_is_an_error(connect: Connect, fake: Fake, keeps_all: bool) -> None:
    """By servers before 0.12.6: to half the context, or to all of it. What fits is answered all the same."""
    fake.version, fake.truncates, fake.keeps_all, fake.per_word = "0.12.0", True, keeps_all, 1.3
    client = connect(ABLE)
    with pytest.raises(
        ContextLengthError, match="all that its context holds" if keeps_all else "dropped the rest"
    ) as caught:
        client.chat("llama " * 3500)
    assert caught.value.limit == 4096
    assert (caught.value.requested or 0) >= 3150
    assert client.chat("llama " * 2500).usage.input_tokens == int(2504 * 1.3)


@pytest.mark.parametrize(
    ("status", "error", "kind", "told"),
    [
        (400, '"x" does not support tools', UnsupportedFeatureError, "tools"),
        (500, "model requires more system memory (80 GiB) than is available (8 GiB)", ModelLoadError, "80 GiB"),
        (500, "llama runner process has terminated", APIStatusError, "terminated"),
        (400, "invalid option", APIStatusError, "invalid option"),
    ],
)
def test_refusals_mean_what_they_say(
    connect: Connect, fake: Fake, status: int, error: str, kind: type[Llama4Error], told: str
) -> None:
    """Each of Ollama's own errors as the SDK's."""
    client = connect(endpoint=AT_ONCE).load()
    fake.refuse = [(status, {"error": error})] * 2
    with pytest.raises(kind, match=told) as caught:
        client.chat("Hello")
    assert caught.value.hint or kind is APIStatusError


def test_a_full_queue_is_asked_again(connect: Connect, fake: Fake) -> None:
    """As a server that is overloaded."""
    client = connect(endpoint=AT_ONCE).load()
    busy = (503, {"error": "server busy, please try again.  maximum pending requests exceeded"})
    fake.refuse = [busy]
    answer = client.chat("Hello")
    assert [attempt.error is None for attempt in answer.attempts] == [False, True]
    fake.refuse = [busy, busy]
    with pytest.raises(OverloadedError):
        client.chat("Hello")


@pytest.mark.parametrize("path", ["chat", "generate"])
def test_an_error_in_the_middle_ends_the_answer(connect: Connect, fake: Fake, path: str) -> None:
    """With what had come; one about the context is that of the context."""
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


def test_asyncio_has_the_same(fake: Fake) -> None:
    """Answers, and cut prompts."""
    fake.truncates, fake.per_word = True, 1.3

    async def ask() -> None:
        async with AsyncClient(SCOUT, backend="ollama", context_length=4096, hardware=LAPTOP) as client:
            answers = await asyncio.gather(*(client.chat(f"Hello {n}") for n in range(20)))
            assert [f"Hello {n} " in answer.text for n, answer in enumerate(answers)] == [True] * 20
            with pytest.raises(ContextLengthError):
                await client.chat("llama " * 3500)

    asyncio.run(ask())
    assert fake.loads == 1
