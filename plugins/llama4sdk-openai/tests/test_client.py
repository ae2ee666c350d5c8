"""The whole way, over real sockets: ``Client`` and ``AsyncClient`` against a server of this machine."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Literal

import pytest
from pydantic import BaseModel, SecretStr

from llama4sdk import AsyncClient, Client, Endpoint, RetryPolicy, Tool
from llama4sdk.errors import (
    APIStatusError,
    AuthenticationError,
    ContextLengthError,
    ModelRetiredError,
    NoBackendError,
    RateLimitError,
    UnsupportedFeatureError,
)
from llama4sdk.testing import LAPTOP

from .fake_server import CONTEXT, KEY, MODEL, Fake, RefusedError, serving

TOOL = Tool(
    name="weather", description="It.", parameters={"type": "object", "properties": {"city": {"type": "string"}}}
)


class Llama(BaseModel):
    """An answer."""

    colour: Literal["brown", "white"]
    age: int


def client(fake: Fake, backend: str = "vllm-server", model: str | None = MODEL, key: str = KEY) -> Client:
    retry = RetryPolicy(base=0.01, throttled=0.01)
    return Client(
        model, backend=backend, endpoint=Endpoint(url=fake.url, api_key=SecretStr(key), retry=retry), hardware=LAPTOP
    )


@pytest.mark.parametrize(
    ("backend", "manners"),
    [("vllm-server", "vllm"), ("together", "together"), ("llamacpp-server", "llamacpp"), ("openai", "plain")],
)
def test_chat_in_every_manner(backend: str, manners: str) -> None:
    """Whatever the server's manners, the answer, its end, its counts and its logprobs are the same."""
    with serving(manners) as fake, client(fake, backend) as asked:
        answer = asked.chat("One two three four", max_tokens=3, logprobs=1)
    assert (answer.text, answer.finish_reason) == ("One two three", "length")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_tokens) == (4, 3, 1)
    assert [(one.token, one.logprob, len(one.top)) for one in answer.logprobs] == [
        (w, -0.25, 1) for w in ("One", " two", " three")
    ]


def test_tools_schemas_and_raw_text(fake: Fake) -> None:
    """Calls are assembled, schemas give values, raw text goes on."""
    with client(fake) as asked:
        calls = asked.chat("Weather?", tools=[TOOL], tool_choice="weather").tool_calls
        assert [(call.name, call.parsed()) for call in calls] == [("weather", {"city": "word"})]
        assert asked.chat("A llama?", schema=Llama).parsed == Llama(colour="brown", age=3)
        assert asked.generate("Once upon", regex="[0-9]{4}-[0-9]{2}-[0-9]{2}").text == "2026-11-21"
        assert asked.count_tokens("One two three") == 3


def test_embeddings_keep_their_order(fake: Fake) -> None:
    """Vectors that come back to front, in base64, are in the order of the texts and of length 1."""
    with client(fake) as packed, client(fake, "openai") as plain:
        texts = [f"text {'e' * n}" for n in range(70)]
        one, other = packed.embed(texts), plain.embed(texts)
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-6) for vector in one.vectors)
    for packed_vector, vector in zip(one.vectors, other.vectors, strict=True):
        assert math.dist(packed_vector, vector) < 1e-6
    assert one.usage.input_tokens == 2 * 70


def test_a_wrong_key_is_an_authentication_error(fake: Fake) -> None:
    """VLLM's bare string is understood, and the key is in no message."""
    with client(fake, "openai", key="sk-wrong") as asked, pytest.raises(AuthenticationError) as caught:
        asked.chat("Hi")
    assert "sk-wrong" not in repr(caught.value) + str(caught.value)


def test_a_prompt_that_is_too_long(fake: Fake) -> None:
    """The server's own count is in the error."""
    with client(fake) as asked, pytest.raises(ContextLengthError) as caught:
        asked.chat("llama " * 600)
    assert (caught.value.limit, caught.value.requested) == (CONTEXT, 602)


def test_an_unknown_model_is_named(fake: Fake) -> None:
    """A name the endpoint does not have is a 404 that says so."""
    with client(fake, "openai", "no-such") as asked, pytest.raises(APIStatusError, match="no-such") as caught:
        asked.chat("Hi")
    assert caught.value.status == 404


def test_together_says_that_a_model_needs_a_machine_of_its_own(fake: Fake) -> None:
    """What it answers for models off its price list is a retired model."""
    words = "Unable to access non-serverless model x. Please create and start a new dedicated endpoint"
    fake.refusal = RefusedError(
        400, {"error": {"message": words, "type": "invalid_request_error", "code": "model_not_available"}}
    )
    with client(fake, "together") as asked, pytest.raises(ModelRetiredError, match="dedicated endpoint"):
        asked.chat("Hi")


def test_retries_are_seen_and_bounded(fake: Fake) -> None:
    """Too many requests are tried again as often as allowed, and each try is in the error."""
    fake.refusal = RefusedError(429, {"error": {"message": "slow down"}})
    with client(fake, "openai") as asked, pytest.raises(RateLimitError) as caught:
        asked.chat("Hi")
    assert len(caught.value.attempts) == 3


def test_a_server_that_cannot_stream_is_asked_for_it_whole(fake: Fake) -> None:
    """One answer instead of a stream, asked for at once."""
    fake.streams = False
    with client(fake, "openai") as asked:
        answer = asked.chat("One two")
    assert answer.text == "One two"
    assert [attempt.error is None for attempt in answer.attempts] == [False, True]


def test_leaving_a_stream_stops_the_server(fake: Fake) -> None:
    """Closing an answer in the middle closes its connection, so that nothing more is written."""
    with client(fake) as asked:
        stream = asked.chat("word " * 400, stream=True)
        next(iter(stream))
        stream.close()
        until = time.monotonic() + 5
        while not fake.finished and time.monotonic() < until:
            time.sleep(0.01)
    assert fake.finished == [False]


def test_asynchronous_answers_are_the_same(fake: Fake) -> None:
    """Many at once, without threads."""

    async def ask() -> list[str]:
        endpoint = Endpoint(url=fake.url, api_key=SecretStr(KEY))
        async with AsyncClient(MODEL, backend="vllm-server", endpoint=endpoint, hardware=LAPTOP) as asked:
            answers = await asyncio.gather(*(asked.chat(f"Number {n}") for n in range(20)))
        return [answer.text for answer in answers]

    assert asyncio.run(ask()) == [f"Number {n}" for n in range(20)]


def test_what_a_server_cannot_do_is_refused_before_it_is_asked(fake: Fake) -> None:
    """An option that the protocol has no word for never leaves the machine."""
    with client(fake, "openai") as asked, pytest.raises(UnsupportedFeatureError, match="top_k"):
        asked.chat("Hi", top_k=3)
    assert not fake.calls


def test_a_key_is_never_in_a_plan(fake: Fake) -> None:
    """Plans are shown and kept: they have no secret."""
    with client(fake) as asked:
        assert KEY not in asked.plan().model_dump_json() + repr(asked.plan())


def test_the_reason_for_no_plan_is_the_endpoints() -> None:
    """Who has no key is told so when planning."""
    with (
        Client("scout", backend="deepinfra", hardware=LAPTOP) as asked,
        pytest.raises(NoBackendError, match="DEEPINFRA_API_KEY"),
    ):
        asked.chat("Hi")
