"""The same tests for every real server: llama.cpp's and vLLM."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import BaseModel, Field, SecretStr

from llama4sdk import AsyncClient, Client, Endpoint, Tool
from llama4sdk.errors import (
    AuthenticationError,
    ContextLengthError,
    Llama4Error,
    NoBackendError,
    UnsupportedFeatureError,
)
from llama4sdk.testing import LAPTOP

__all__ = ["KEY", "PeerTests", "running"]

KEY = "sk-peer-secret"
#: Seconds that a server may take to load its model.
MAX_START_SECONDS = 300.0


class Llama(BaseModel):
    """A structured answer."""

    colour: Literal["brown", "white", "black"]
    age: int = Field(ge=0, le=20)


WEATHER = Tool(
    name="get_weather",
    description="The weather in a city.",
    parameters={"type": "object", "properties": {"city": {"enum": ["Lima", "Oslo"]}}, "required": ["city"]},
)


@contextmanager
def running(command: Sequence[str], port: int, log: Path, **environment: str) -> Iterator[str]:
    """The address of a server, once it answers; it is stopped at the end."""
    with log.open("wb") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + MAX_START_SECONDS
        while not _healthy(port):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}", pytrace=False)
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def free_port() -> int:
    """A port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


class PeerTests:
    """Subclasses give the backend's name, and ``address``, a fixture of the server."""

    backend: ClassVar[str]
    context: ClassVar[int]
    #: Whether its model is trained, so that answers make sense.
    sensible: ClassVar[bool]

    @pytest.fixture
    def client(self, address: str) -> Iterator[Client]:
        """A client that leaves the model to the server."""
        with Client(backend=self.backend, endpoint=self.endpoint(address), hardware=LAPTOP) as client:
            yield client

    def endpoint(self, address: str, key: str = KEY) -> Endpoint:
        """The server with this key."""
        return Endpoint(url=address, api_key=SecretStr(key))

    def test_the_plan_has_the_servers_model(self, client: Client) -> None:
        """The plan has the server's model and its real context."""
        plan = client.plan()
        print(plan.model, plan.context_length, sorted(plan.capabilities.features))
        assert plan.context_length == self.context

    def test_chat(self, client: Client) -> None:
        """An answer with its counts."""
        answer = client.chat("What is the capital of France?", temperature=0, max_tokens=12)
        print(repr(answer.text), answer.finish_reason, answer.usage)
        assert answer.text
        assert (
            not self.sensible
            or "Paris" in client.generate("The capital of France is", temperature=0, max_tokens=8).text
        )
        assert (answer.usage.input_tokens or 0) > 5
        assert 1 <= (answer.usage.output_tokens or 0) <= 12

    def test_a_stream_is_the_whole_answer(self, client: Client, address: str) -> None:
        """Its pieces, joined, are the whole answer; with asyncio too."""
        question = "Name a colour."
        whole = client.chat(question, temperature=0, max_tokens=16).text
        pieces = [
            event.text
            for event in client.chat(question, stream=True, temperature=0, max_tokens=16)
            if hasattr(event, "text")
        ]

        async def ask() -> str:
            async with AsyncClient(backend=self.backend, endpoint=self.endpoint(address), hardware=LAPTOP) as asking:
                return (await asking.chat(question, temperature=0, max_tokens=16)).text

        print(len(pieces), repr(whole))
        assert len(pieces) > 1
        assert "".join(pieces) == whole == asyncio.run(ask())

    def test_limits(self, client: Client) -> None:
        """An answer ends after max_tokens, and before a stop string."""
        cut = client.generate("One, two, three, four,", temperature=0, max_tokens=3)
        assert (cut.finish_reason, cut.usage.output_tokens) == ("length", 3)
        whole = client.generate("One, two, three, four,", temperature=0, max_tokens=12).text
        stop = whole[len(whole) // 2 :][:2]
        stopped = client.generate("One, two, three, four,", temperature=0, max_tokens=12, stop=stop)
        print(repr(whole), repr(stopped.text))
        assert (stopped.text, stopped.finish_reason) == (whole[: whole.index(stop)], "stop")

    def test_seeds(self, client: Client) -> None:
        """The same seed gives the same answer."""
        first, second, third = (
            client.generate("A llama", temperature=1.5, seed=seed, max_tokens=12).text for seed in (1, 1, 2)
        )
        print(repr(first), repr(third))
        assert first == second != third

    def test_raw_text_is_not_cut(self, client: Client) -> None:
        """Without a limit raw text is longer than the servers' default of sixteen tokens."""
        answer = client.generate("List of all numbers: 1, 2, 3, 4, 5, 6,", temperature=0, seed=1, stop="42,")
        print(answer.finish_reason, answer.usage.output_tokens)
        assert (answer.usage.output_tokens or 0) > 16 or answer.finish_reason == "stop"

    def test_a_required_tool_is_called(self, client: Client) -> None:
        """The call is assembled from its fragments, and its arguments fit."""
        for choice in ("required", "get_weather"):
            answer = client.chat("Weather in Lima?", tools=[WEATHER], tool_choice=choice, max_tokens=64, temperature=0)
            print(answer.tool_calls, answer.finish_reason)
            assert answer.tool_calls
            assert answer.tool_calls[0].name == "get_weather"
            assert answer.tool_calls[0].parsed()["city"] in ("Lima", "Oslo")
            assert answer.finish_reason == "tool_calls" or not self.sensible

    def test_a_schema(self, client: Client) -> None:
        """The answer is an instance of the type, in chats and raw text."""
        chat = client.chat("Describe a llama in JSON.", schema=Llama, max_tokens=64, temperature=0)
        raw = client.generate("A llama in JSON: ", schema=Llama, max_tokens=64, temperature=0)
        print(chat.text, raw.text)
        assert isinstance(chat.parsed, Llama)
        assert isinstance(raw.parsed, Llama)

    def test_a_regular_expression_and_a_grammar(self, client: Client) -> None:
        """The whole answer is what they allow; a server that takes neither is not asked."""
        if "regex" not in client.plan().capabilities.features:
            for constraint in ({"regex": "yes|no"}, {"grammar": 'start: "yes" | "no"'}):
                with pytest.raises(UnsupportedFeatureError) as caught:
                    client.chat("Yes or no?", **constraint)  # type: ignore[call-overload]
                assert "schema=" in (caught.value.hint or "")
            return
        pattern = r"(19|20)\d{2}-[0-1][0-9]-[0-3]\d [a-f]{2,4}"
        dated = client.chat("When?", regex=pattern, max_tokens=32, temperature=0).text
        lark = 'start: "(" inner ")"\ninner: "yes"i | DIGIT ~ 2..3 // a comment\n    | "no"\n%import common.DIGIT'
        bracketed = client.chat("Yes or no, in brackets?", grammar=lark, max_tokens=16, temperature=0).text
        print(repr(dated), repr(bracketed))
        assert re.fullmatch(pattern, dated)
        assert re.fullmatch(r"\(([yY][eE][sS]|\d{2,3}|no)\)", bracketed)

    def test_logprobs(self, client: Client) -> None:
        """Each token's, with the likeliest alternatives: the drawn one is the entry of them at temperature 0."""
        for answer in (
            client.chat("Say hello.", logprobs=3, max_tokens=4, temperature=0),
            client.generate("Once upon a", logprobs=3, max_tokens=4, temperature=0),
        ):
            print(
                [(entry.token, round(entry.logprob, 3), [top.token for top in entry.top]) for entry in answer.logprobs]
            )
            assert len(answer.logprobs) == answer.usage.output_tokens
            for entry in answer.logprobs:
                assert len(entry.top) == 3
                assert entry.logprob == pytest.approx(entry.top[0].logprob, abs=1e-4)
                assert math.fsum(math.exp(top.logprob) for top in entry.top) <= 1.001

    def test_counting(self, client: Client) -> None:
        """The count beforehand is the usage afterwards."""
        counted = client.count_tokens("What is the capital of France?")
        used = client.chat("What is the capital of France?", max_tokens=1).usage.input_tokens
        print(counted, used)
        assert counted == used
        assert client.count_tokens("Weather?", tools=[WEATHER]) > client.count_tokens("Weather?")

    def test_a_prompt_that_is_too_long(self, client: Client) -> None:
        """Refused before any event, with the server's context."""
        with pytest.raises(ContextLengthError) as caught:
            client.chat("llama " * (self.context + 100))
        print(caught.value)
        assert caught.value.limit == self.context
        assert (caught.value.requested or 0) > self.context

    def test_an_answer_that_is_too_long(self, client: Client) -> None:
        """An answer as long as the context is refused."""
        with pytest.raises(ContextLengthError):
            client.chat("Hello", max_tokens=self.context)

    def test_a_wrong_key(self, address: str) -> None:
        """It is refused when planning; a backend that asks no server before raises AuthenticationError."""
        wrong = self.endpoint(address, "sk-wrong")
        with (
            Client(backend=self.backend, endpoint=wrong, hardware=LAPTOP) as client,
            pytest.raises(NoBackendError, match="401"),
        ):
            client.plan()
        model = Client(backend=self.backend, endpoint=self.endpoint(address), hardware=LAPTOP).plan().model
        with (
            Client(model, backend="openai", endpoint=wrong, hardware=LAPTOP) as client,
            pytest.raises(AuthenticationError) as caught,
        ):
            client.chat("Hello")
        print(caught.value)
        assert "sk-wrong" not in str(caught.value)

    def test_leaving_a_stream_frees_the_server(self, client: Client, address: str) -> None:
        """A long answer closed after its first piece is generated no further."""
        for _ in range(3):
            stream = client.generate("Once upon a time", max_tokens=self.context - 100, stream=True)
            next(iter(stream))
            stream.close()
        deadline = time.monotonic() + 10
        while self.busy(address) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not self.busy(address)
        assert client.chat("Hello", max_tokens=2).text is not None

    def test_concurrent_requests(self, address: str) -> None:
        """Eight concurrent requests are each answered completely."""

        async def ask() -> list[tuple[str | None, int | None]]:
            async with AsyncClient(backend=self.backend, endpoint=self.endpoint(address), hardware=LAPTOP) as client:
                answers = await asyncio.gather(*(client.chat(f"Say {n}.", max_tokens=6, seed=1) for n in range(8)))
            return [(answer.finish_reason, answer.usage.output_tokens) for answer in answers]

        ends = asyncio.run(ask())
        assert len(ends) == 8
        assert all(reason == "stop" or (reason, count) == ("length", 6) for reason, count in ends)

    def test_the_servers_refusal_is_an_sdk_error(self, client: Client) -> None:
        """An invalid pattern raises one of the SDK's errors, with a hint."""
        with pytest.raises(Llama4Error) as caught:
            client.chat("Hi", regex="(unclosed", max_tokens=4)
        assert caught.value.hint

    def busy(self, address: str) -> bool:
        """Whether the server is still generating an answer."""
        raise NotImplementedError


def fetched(url: str) -> str:
    """A page of the server."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {KEY}"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        text: str = answer.read().decode()
    return text


def parsed(url: str) -> object:
    """The same as JSON."""
    return json.loads(fetched(url))
