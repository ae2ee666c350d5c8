"""Whole clients over a remote engine: what users see of attempts, costs and interruptions, and when they close."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from llama4sdk import AsyncClient, Client
from llama4sdk.endpoint import Endpoint, RetryPolicy, Timeouts
from llama4sdk.errors import (
    APIError,
    APITimeoutError,
    ConfigurationError,
    Llama4Error,
    OverloadedError,
    StreamClosedError,
    StreamInterruptedError,
)
from llama4sdk.events import Attempt
from llama4sdk.remote.retry import CircuitBreaker
from tests.remote.backend import registry
from tests.remote.conftest import Ask, hides
from tests.remote.server import Hold, Read, Script, Server, answer, chunked
from tests.remote.small import KEY, engine, event, hello, text

GOOD: Script = [Read(), answer(hello())]
CUT: Script = [Read(), chunked(text("Hello"), text(", "), end=False)]
STALLED: Script = [*CUT, Hold()]


def options(url: str, **more: Any) -> dict[str, Any]:
    """The arguments of a client."""
    endpoint = Endpoint(url=url, retry=RetryPolicy(retries=1, base=0.001, throttled=0.001), **more)
    return {"backend": "small", "endpoint": endpoint, "api_key": KEY, "registry": registry()}


def test_an_answer_says_how_it_was_come_by() -> None:
    """Attempts, cost and text; and neither plan nor answer holds the key."""
    seen: list[Attempt] = []
    with (
        Server([Read(), answer(b"busy", "503 No")], GOOD) as server,
        Client("scout", **options(server.url, on_attempt=seen.append)) as client,
    ):
        completion = client.generate("Hi")
        assert KEY not in client.plan().model_dump_json()
    assert (completion.text, completion.usage.cost) == ("Hello, llama", 0.5)
    assert [attempt.error is None for attempt in completion.attempts] == [False, True]
    assert list(completion.attempts) == seen
    assert KEY not in repr(completion)
    assert f"Authorization: Bearer {KEY}".encode() in server.requests[0]


@pytest.mark.parametrize("backend", [None, "echo"])
@pytest.mark.parametrize("given", [{"endpoint": "http://127.0.0.1:9"}, {"api_key": KEY}])
def test_an_address_that_nothing_would_ask_is_refused(backend: str | None, given: dict[str, Any]) -> None:
    """Not answered by a model on this machine, as if it had been asked; patience alone is no address."""
    with (
        pytest.raises(ConfigurationError, match="An endpoint or its key") as caught,
        Client("echo", backend=backend, **given) as client,
    ):
        client.chat("Hi")
    assert "backend" in str(caught.value.hint)
    with Client("echo", backend=backend, endpoint=Endpoint(timeouts=Timeouts(total=9))) as client:
        assert client.chat("Hi").text == "Hi"


@pytest.mark.parametrize("given", [{"endpoint": 5}, {"api_key": 5}])
def test_what_is_no_address_or_key_is_refused(given: dict[str, Any]) -> None:
    """At once, whatever it is."""
    with pytest.raises(ConfigurationError, match="neither text nor an Endpoint"):
        Client("scout", backend="small", **given)


def test_a_hook_that_fails_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the answer goes on."""

    def hook(attempt: Attempt) -> None:
        raise ValueError("hook")

    with Server(GOOD) as server, Client("scout", **options(server.url, on_attempt=hook)) as client:
        assert client.generate("Hi").text == "Hello, llama"
    assert "on_attempt failed" in caplog.text


INTERRUPTED: dict[str, tuple[Script, type[Llama4Error]]] = {
    "cut": (CUT, StreamInterruptedError),
    "stalled": (STALLED, APITimeoutError),
    "given up": ([Read(), answer(text("Hello") + text(", ") + event(error="no GPU"))], APIError),
}


@pytest.mark.parametrize("name", INTERRUPTED)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_had_arrived_is_not_lost(name: str, asynchronous: bool) -> None:
    """Whatever ends an answer early, its beginning is in the error's .partial, and it is not asked again."""
    script, kind = INTERRUPTED[name]
    with Server(script) as server:
        settings = options(server.url, timeouts=Timeouts(between=0.2))
        with pytest.raises(kind) as caught:
            if asynchronous:

                async def ask() -> None:
                    async with AsyncClient("scout", **settings) as client:
                        await client.generate("Hi")

                asyncio.run(ask())
            else:
                with Client("scout", **settings) as client:
                    client.generate("Hi")
    error = caught.value
    assert isinstance(error, APIError | StreamInterruptedError)
    assert error.partial is not None
    assert error.partial.text == "Hello, "
    assert server.connections == 1
    hides(error)


def test_closing_a_client_wakes_its_threads() -> None:
    """A thread in the middle of an answer gets StreamClosedError."""
    caught: list[BaseException] = []
    with Server(STALLED) as server:
        client = Client("scout", **options(server.url))

        def read() -> None:
            try:
                client.generate("Hi")
            except StreamClosedError as error:
                caught.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        server.reached.wait(10)
        client.close()
        reader.join(10)
    assert len(caught) == 1


def test_closing_a_client_wakes_its_tasks() -> None:
    """A hundred tasks in the middle of their answers get StreamClosedError, and close() returns."""

    async def main(url: str) -> None:
        client = AsyncClient("scout", **options(url))
        streams = [await client.generate("Hi", stream=True) for _ in range(100)]
        tasks = [asyncio.create_task(stream.completion()) for stream in streams]
        while not all(stream.partial.text for stream in streams):
            await asyncio.sleep(0.01)  # which leaves the processor to the server's threads
        await client.close()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(result) for result in results} == {StreamClosedError}
        assert len(asyncio.all_tasks()) == 1

    with Server(STALLED) as server:
        asyncio.run(main(server.url))


def test_an_endpoint_that_only_fails_is_left_alone(ask: Ask) -> None:
    """After ten faults in a row nothing is sent for a while, and the error says why."""
    refused: Script = [Read(), answer(b"on fire", "500 No", connection="close")]
    with Server(refused) as server:
        remote = engine(server.url, retries=1)
        remote._health.breaker = CircuitBreaker(time.monotonic, span=0)  # these faults are a single moment's
        for _ in range(5):
            assert "on fire" in ask(remote, close=False).failed.message
        error = ask(remote).failed
    assert server.connections == 10
    assert isinstance(error, OverloadedError)
    assert "is left alone for 15 seconds. 'small' answered 500: on fire." in error.message
    assert error.retry_after == pytest.approx(15, abs=10)
