"""``Client`` and ``AsyncClient`` over real sockets, against a fake server on this machine."""

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
    ("backend", "dialect"),
    [("vllm-server", "vllm"), ("together", "together"), ("llamacpp-server", "llamacpp"), ("openai", "plain")],
)
def test_chat_in_every_dialect(backend: str, dialect: str) -> None:
    """The answer, its end, its counts and its logprobs are the same in every dialect of servers."""
    with serving(dialect) as fake, client(fake, backend) as llama:
        answer = llama.chat("One two three four", max_tokens=3, logprobs=1)
    assert (answer.text, answer.finish_reason) == ("One two three", "length")
    assert (answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.cached_tokens) == (4, 3, 1)
    assert [(entry.token, entry.logprob, len(entry.top)) for entry in answer.logprobs] == [
        (w, -0.25, 1) for w in ("One", " two", " three")
    ]


def test_tools_schemas_and_raw_text(fake: Fake) -> None:
    """Calls are assembled, schemas give values, raw text is continued."""
    with client(fake) as llama:
        calls = llama.chat("Weather?", tools=[TOOL], tool_choice="weather").tool_calls
        assert [(call.name, call.parsed()) for call in calls] == [("weather", {"city": "word"})]
        assert llama.chat("A llama?", schema=Llama).parsed == Llama(colour="brown", age=3)
        assert llama.generate("Once upon", regex="[0-9]{4}-[0-9]{2}-[0-9]{2}").text == "2026-11-21"
        assert llama.count_tokens("One two three") == 3


def test_embeddings_keep_their_order(fake: Fake) -> None:
    """Vectors sent in reverse order, in base64, come in the order of the texts and have length 1."""
    with client(fake) as packed, client(fake, "openai") as plain:
        texts = [f"text {'e' * n}" for n in range(70)]
        packed_result, plain_result = packed.embed(texts), plain.embed(texts)
    assert all(math.isclose(math.hypot(*vector), 1, abs_tol=1e-6) for vector in packed_result.vectors)
    for packed_vector, vector in zip(packed_result.vectors, plain_result.vectors, strict=True):
        assert math.dist(packed_vector, vector) < 1e-6
    assert packed_result.usage.input_tokens == 2 * 70


def test_a_wrong_key_is_an_authentication_error(fake: Fake) -> None:
    """VLLM's plain string is recognized, and the key is in no message."""
    with client(fake, "openai", key="sk-wrong") as llama, pytest.raises(AuthenticationError) as caught:
        llama.chat("Hi")
    assert "sk-wrong" not in repr(caught.value) + str(caught.value)


def test_a_prompt_that_is_too_long(fake: Fake) -> None:
    """The server's own count is in the error."""
    with client(fake) as llama, pytest.raises(ContextLengthError) as caught:
        llama.chat("llama " * 600)
    assert (caught.value.limit, caught.value.requested) == (CONTEXT, 602)


def test_an_unknown_model_is_named(fake: Fake) -> None:
    """A name the endpoint does not have is a 404 that says so."""
    with client(fake, "openai", "no-such") as llama, pytest.raises(APIStatusError, match="no-such") as caught:
        llama.chat("Hi")
    assert caught.value.status == 404


def test_togethers_dedicated_models_are_retired_models(fake: Fake) -> None:
    """Together's answer for a model off its price list is a ModelRetiredError."""
    words = "Unable to access non-serverless model x. Please create and start a new dedicated endpoint"
    fake.refusal = RefusedError(
        400, {"error": {"message": words, "type": "invalid_request_error", "code": "model_not_available"}}
    )
    with client(fake, "together") as llama, pytest.raises(ModelRetiredError, match="dedicated endpoint"):
        llama.chat("Hi")


def test_retries_are_recorded_and_bounded(fake: Fake) -> None:
    """A throttled request is sent again as often as allowed, and the error has each attempt."""
    fake.refusal = RefusedError(429, {"error": {"message": "slow down"}})
    with client(fake, "openai") as llama, pytest.raises(RateLimitError) as caught:
        llama.chat("Hi")
    assert len(caught.value.attempts) == 3


def test_a_server_that_cannot_stream_is_asked_for_a_whole_answer(fake: Fake) -> None:
    """The refusal of a stream is followed at once by a request without one."""
    fake.streams = False
    with client(fake, "openai") as llama:
        answer = llama.chat("One two")
    assert answer.text == "One two"
    assert [attempt.error is None for attempt in answer.attempts] == [False, True]


def test_leaving_a_stream_stops_the_server(fake: Fake) -> None:
    """Closing an answer midway closes its connection, so that nothing more is generated."""
    with client(fake) as llama:
        stream = llama.chat("word " * 400, stream=True)
        next(iter(stream))
        stream.close()
        deadline = time.monotonic() + 5
        while not fake.finished and time.monotonic() < deadline:
            time.sleep(0.01)
    assert fake.finished == [False]


def test_asynchronous_answers_are_the_same(fake: Fake) -> None:
    """Many at once, without threads."""

    async def ask() -> list[str]:
        endpoint = Endpoint(url=fake.url, api_key=SecretStr(KEY))
        async with AsyncClient(MODEL, backend="vllm-server", endpoint=endpoint, hardware=LAPTOP) as llama:
            answers = await asyncio.gather(*(llama.chat(f"Number {n}") for n in range(20)))
        return [answer.text for answer in answers]

    assert asyncio.run(ask()) == [f"Number {n}" for n in range(20)]


def test_unsupported_options_are_refused_before_anything_is_sent(fake: Fake) -> None:
    """An option that the protocol does not have never leaves the machine."""
    with client(fake, "openai") as llama, pytest.raises(UnsupportedFeatureError, match="top_k"):
        llama.chat("Hi", top_k=3)
    assert not fake.calls


def test_a_key_is_never_in_a_plan(fake: Fake) -> None:
    """Plans are shown and stored, so they hold no secret."""
    with client(fake) as llama:
        assert KEY not in llama.plan().model_dump_json() + repr(llama.plan())


def test_a_missing_key_is_named_when_planning() -> None:
    """The error names the variable that the backend reads."""
    with (
        Client("scout", backend="deepinfra", hardware=LAPTOP) as llama,
        pytest.raises(NoBackendError, match="DEEPINFRA_API_KEY"),
    ):
        llama.chat("Hi")
