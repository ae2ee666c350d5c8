"""The user's own httpx client: used by both kinds of callers, bounded and woken as ours are, and never closed."""

from __future__ import annotations

import asyncio
import gzip
import pickle
import ssl
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import httpx
import pytest
import trustme
from pydantic import ValidationError

from llama4sdk import AsyncClient, Client, Endpoint, RetryPolicy
from llama4sdk.endpoint import HttpClient, Timeouts
from llama4sdk.errors import (
    APIConnectionError,
    APITimeoutError,
    AuthenticationError,
    ConfigurationError,
    StreamClosedError,
)
from llama4sdk.remote.loop_thread import run_in_thread
from llama4sdk.requests import EmbedRequest, Request
from tests.remote.backend import registry
from tests.remote.conftest import hides
from tests.remote.server import Drip, Hold, Read, Reset, Script, Server, answer, chunked
from tests.remote.small import KEY, engine, hello, text
from tests.remote.twice import twice

ANSWER = "Hello, llama"
GOOD: Script = [Read(), answer(hello())]
REQUEST = Request(prompt="Hi")


def respond(request: httpx.Request) -> httpx.Response:
    """A whole answer, or a vector."""
    return httpx.Response(200, content=b"[1, 2]" if request.url.path == "/embed" else hello())


def endpoint(url: str, **settings: Any) -> Endpoint:
    """An endpoint that is tried once."""
    return Endpoint.model_validate({"url": url, "api_key": KEY, "retry": RetryPolicy(retries=0), **settings})


def ask(url: str, http_client: HttpClient, **settings: Any) -> str:
    """The text of an answer by ``Client``, which is closed afterwards."""
    settings = {"backend": "small", "endpoint": endpoint(url, **settings), "registry": registry()}
    with Client("scout", http_client=http_client, **settings) as client:
        return client.generate("Hi").text


async def aask(url: str, http_client: HttpClient, **settings: Any) -> str:
    """The same by ``AsyncClient``."""
    settings = {"backend": "small", "endpoint": endpoint(url, **settings), "registry": registry()}
    async with AsyncClient("scout", http_client=http_client, **settings) as client:
        return (await client.generate("Hi")).text


def test_a_mock_transport_needs_no_server() -> None:
    """Requests go to the client that was given, with what it adds to each and with our headers."""
    requests: list[httpx.Request] = []

    def record(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return respond(request)

    http_client = httpx.Client(transport=httpx.MockTransport(record), headers={"x-team": "llamas"})
    assert ask("http://llama.example", http_client) == ANSWER
    (request,) = requests
    assert str(request.url) == "http://llama.example/answer"
    assert request.headers["x-team"] == "llamas"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("llama4sdk/")
    assert not http_client.is_closed


def test_an_asynchronous_client_is_used_in_its_own_loop() -> None:
    """By streams as by calls that run in threads; both come back to the loop that waits for them."""

    async def main() -> None:
        loops: set[asyncio.AbstractEventLoop] = set()

        async def record(request: httpx.Request) -> httpx.Response:
            loops.add(asyncio.get_running_loop())
            return respond(request)

        async with httpx.AsyncClient(transport=httpx.MockTransport(record)) as http_client:
            assert await aask("http://llama.example", http_client) == ANSWER
            remote = engine("http://llama.example", http_client=http_client)
            embeddings = await run_in_thread(remote.embed, EmbedRequest(inputs=("a", "b")))
            assert embeddings.vectors == ((1.0, 2.0), (1.0, 2.0))
            await remote.aclose()
            assert loops == {asyncio.get_running_loop()}
            assert not http_client.is_closed

    asyncio.run(main())


def test_a_synchronous_client_serves_an_asynchronous_one() -> None:
    """In threads; its hooks are called, and its authentication is used."""
    events: list[str] = []
    hooks: dict[str, list[Any]] = {
        "request": [lambda request: events.append("request")],
        "response": [lambda response: events.append("response")],
    }
    with Server(GOOD) as server, httpx.Client(event_hooks=hooks, auth=("me", "own-password")) as http_client:
        assert asyncio.run(aask(server.url, http_client)) == ANSWER
    assert events == ["request", "response"]
    assert b"Basic bWU6b3duLXBhc3N3b3Jk" in server.requests[0]


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_hooks_see_the_context_of_the_caller(kind: str) -> None:
    """So that a span of tracing has the caller's as its parent, whatever thread it is made in."""
    variable: ContextVar[str] = ContextVar("span", default="none")
    seen: list[str] = []
    hooks: dict[str, list[Any]] = {"request": [lambda request: seen.append(variable.get())]}
    with httpx.Client(transport=httpx.MockTransport(respond), event_hooks=hooks) as http_client:
        variable.set("of the caller")
        if kind == "Client":
            ask("http://llama.example", http_client)
        else:
            asyncio.run(aask("http://llama.example", http_client))
    assert seen == ["of the caller"]


@pytest.mark.parametrize("way", ["sync", "async"])
def test_connections_of_a_client_are_used_again(way: str) -> None:
    """Two answers, one connection, and none of it is closed with the engine."""
    with Server([*GOOD] * 4) as server, httpx.Client() as http_client:
        first, second = twice(engine(server.url, http_client=http_client), way)
        third, _ = twice(engine(server.url, http_client=http_client), "sync")
    assert [asked.text for asked in (first, second, third)] == [ANSWER] * 3
    assert server.connections == 1


@pytest.mark.parametrize("name", ["hung up", "hung up when asked", "reset when asked"])
def test_an_idle_connection_that_is_gone(name: str) -> None:
    """It is replaced silently, as one of ours."""
    scripts: dict[str, Script] = {
        "hung up": [*GOOD],
        "hung up when asked": [*GOOD, Read()],
        "reset when asked": [*GOOD, Read(), Reset()],
    }
    with Server(scripts[name], GOOD) as server, httpx.Client() as http_client:
        first, second = twice(engine(server.url, http_client=http_client), "sync")
    assert (first.text, second.text) == (ANSWER, ANSWER)
    assert len(second.finish.attempts) == 1


PHASES: dict[str, tuple[Script, str]] = {
    "connect": ([Hold()], "connect"),
    "head": ([Read(), b"HTTP/1.1 200 OK\r\n", Drip(b"x-pad: aaaaaaaaaaaaaaaaaaaaaa\r\n")], "first_byte"),
    "stall": ([Read(), chunked(text("Hello"), end=False), Hold()], "between"),
}


@pytest.mark.parametrize("name", PHASES)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_deadlines_hold_for_any_client(name: str, kind: str) -> None:
    """The endpoint's timeouts count, not the client's, and the error names the phase."""
    script, phase = PHASES[name]
    with Server(script) as server:
        url = server.url.replace("http", "https") if phase == "connect" else server.url
        settings = {"timeouts": Timeouts(connect=0.2, first_byte=0.3, between=0.3)}
        with pytest.raises(APITimeoutError) as caught:
            if kind == "sync":
                with httpx.Client(timeout=0.001) as http_client:
                    ask(url, http_client, **settings)
            else:

                async def main() -> None:
                    async with httpx.AsyncClient(timeout=0.001) as http_client:
                        await aask(url, http_client, **settings)

                asyncio.run(main())
    assert caught.value.phase == phase


@pytest.mark.parametrize("stage", ["head", "stall"])
def test_closing_wakes_who_reads_with_a_client(stage: str) -> None:
    """A thread in the middle of a request gets StreamClosedError; the client's connection ends, the client lives."""
    script: Script = [Read(), Hold()] if stage == "head" else PHASES["stall"][0]
    caught: list[BaseException] = []
    with Server(script, GOOD) as server, httpx.Client() as http_client:
        remote = engine(server.url, http_client=http_client)

        def read() -> None:
            try:
                list(remote.stream(REQUEST))
            except StreamClosedError as error:
                caught.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        server.reached.wait(10)
        remote.close()
        reader.join(10)
        assert len(caught) == 1
        assert ask(server.url, http_client) == ANSWER


def test_redirections_are_not_followed() -> None:
    """Not even where the client would."""
    with Server(GOOD) as other, Server([Read(), answer(b"", "302 Found", location=other.url)]) as server:
        with httpx.Client(follow_redirects=True) as http_client, pytest.raises(Exception, match="not followed"):
            ask(server.url, http_client)
        assert other.connections == 0


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_hooks_may_read_a_response(kind: str, coding: str) -> None:
    """A body that a hook has read and decompressed is read again from memory."""
    body = gzip.compress(hello()) if coding == "gzip" else hello()
    with Server([Read(), answer(body, content_encoding=coding)]) as server:
        if kind == "sync":
            with httpx.Client(event_hooks={"response": [lambda response: response.read()]}) as http_client:
                assert ask(server.url, http_client) == ANSWER
        else:

            async def read(response: httpx.Response) -> None:
                await response.aread()

            async def main() -> str:
                async with httpx.AsyncClient(event_hooks={"response": [read]}) as http_client:
                    return await aask(server.url, http_client)

            assert asyncio.run(main()) == ANSWER


def test_hooks_may_refuse_a_status() -> None:
    """``raise_for_status`` ends in the error of that status."""
    hooks: dict[str, list[Any]] = {"response": [lambda response: response.raise_for_status()]}
    with (
        Server([Read(), answer(b"", "401 No")]) as server,
        httpx.Client(event_hooks=hooks) as http_client,
        pytest.raises(AuthenticationError, match="401"),
    ):
        ask(server.url, http_client)


def test_a_private_authority_and_a_certificate_of_ones_own(
    authority: tuple[trustme.CA, str], secured: Callable[[str], ssl.SSLContext], tmp_path: Any
) -> None:
    """The client's TLS settings count: without its certificate the server refuses."""
    context = secured("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    authority[0].configure_trust(context)
    trusting = ssl.create_default_context(cafile=authority[1])
    certified = ssl.create_default_context(cafile=authority[1])
    authority[0].issue_cert("llama@client.example").configure_cert(certified)
    with Server(GOOD, tls=context) as server:
        with httpx.Client(verify=certified) as http_client:
            assert ask(server.url, http_client) == ANSWER
        with httpx.Client(verify=trusting) as http_client, pytest.raises(APIConnectionError):
            ask(server.url, http_client)


def test_a_proxy() -> None:
    """The client's proxy is used."""
    with Server(GOOD) as proxy, httpx.Client(proxy=f"http://me:proxy-password@127.0.0.1:{proxy.port}") as http_client:
        assert ask("http://llama.example/v1", http_client) == ANSWER
    assert proxy.requests[0].startswith(b"POST http://llama.example/v1/answer HTTP/1.1\r\n")


def test_errors_of_a_client_are_explained() -> None:
    """As those of our own; what is no error of HTTP is raised as it is."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no way")

    with pytest.raises(APIConnectionError, match="was not reached: no way"):
        ask("http://llama.example", httpx.Client(transport=httpx.MockTransport(refuse)))


@pytest.mark.parametrize(("timeout", "phase"), [(httpx.ReadTimeout, "first_byte"), (httpx.ConnectTimeout, "connect")])
def test_timeouts_of_a_transport_are_timeouts(timeout: type[httpx.TimeoutException], phase: str) -> None:
    """Also those that a mock transport raises."""

    def delay(request: httpx.Request) -> httpx.Response:
        raise timeout("late")

    with pytest.raises(APITimeoutError) as caught:
        ask("http://llama.example", httpx.Client(transport=httpx.MockTransport(delay)))
    assert caught.value.phase == phase


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_httpx2_is_taken_too(kind: str) -> None:
    """Many SDKs have moved to it; its interface and its errors are httpx's."""
    httpx2 = pytest.importorskip("httpx2")

    async def main(url: str) -> str:
        async with httpx2.AsyncClient() as http_client:
            return await aask(url, http_client)

    with Server(GOOD, [Reset()]) as server:
        if kind == "AsyncClient":
            assert asyncio.run(main(server.url)) == ANSWER
            with pytest.raises(APIConnectionError):
                asyncio.run(main(server.url))
        else:
            with httpx2.Client() as http_client:
                assert ask(server.url, http_client) == ANSWER
            with httpx2.Client() as http_client, pytest.raises(APIConnectionError):
                ask(server.url, http_client)


def test_a_client_that_cannot_be_used_is_refused() -> None:
    """With what to pass instead: an asynchronous one in synchronous calls, a closed one, and what is none."""
    http_client = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    for settings in ({"http_client": http_client}, {"endpoint": Endpoint(url="http://x", http_client=http_client)}):
        with pytest.raises(ConfigurationError, match="asynchronous") as caught:
            Client("scout", backend="small", **settings)
        assert "llama4sdk.AsyncClient" in str(caught.value.hint)
    remote = engine("http://llama.example", http_client=http_client)
    with pytest.raises(ConfigurationError, match="asynchronous"):
        list(remote.stream(REQUEST))
    remote.close()
    asyncio.run(http_client.aclose())
    with pytest.raises(ConfigurationError, match="no client of httpx"):
        Client("scout", backend="small", http_client="http://proxy")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="http_client"):
        Endpoint.model_validate({"http_client": 5})
    closed = httpx.Client()
    closed.close()
    with pytest.raises(ConfigurationError, match="was closed"):
        ask("http://llama.example", closed)


def test_a_client_that_nothing_would_use_is_refused() -> None:
    """As an address is, where the plan stays on this machine."""
    with (
        httpx.Client() as http_client,
        pytest.raises(ConfigurationError, match="was given"),
        Client("echo", http_client=http_client) as client,
    ):
        client.chat("Hi")


def test_secrets_of_a_client_are_hidden() -> None:
    """Its headers in errors that repeat them; and an endpoint shows nothing of it."""
    headers = {"Authorization": f"Bearer {KEY}-of-client", "X-Api-Key": "gateway-key-123"}
    refusal = answer(f"{KEY}-of-client gateway-key-123".encode(), "401 No")
    with Server([Read(), refusal]) as server, httpx.Client(headers=headers) as http_client:
        shown = Endpoint(url=server.url, http_client=http_client)
        assert "gateway" not in f"{shown!r} {shown.model_dump()} {shown.model_dump_json()}"
        with pytest.raises(AuthenticationError, match="hidden") as caught:
            ask(server.url, http_client)
    hides(caught.value, f"{KEY}-of-client")
    hides(caught.value, "gateway-key-123")
    assert pickle.loads(pickle.dumps(Endpoint(url="http://x"))) == Endpoint(url="http://x")
