"""The way to a server: names, addresses, TLS, proxies, what is sent, and connections that are used again."""

from __future__ import annotations

import importlib.util
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence

import pytest
import trustme

from llama4sdk.errors import APIConnectionError, APIError, APITimeoutError, AuthenticationError, ConfigurationError
from llama4sdk.remote.dialect import Call
from tests.remote.conftest import Ask, hides
from tests.remote.server import Hold, Read, Reset, Script, Secure, Server, answer
from tests.remote.small import KEY, SmallDialect, engine, hello
from tests.remote.twice import twice

ANSWER = "Hello, llama"
GOOD: Script = [Read(), answer(hello())]
Secured = Callable[[str], ssl.SSLContext]


@pytest.fixture
def closed_port() -> int:
    """A port at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue is full, so that connections are neither made nor refused."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        queue = [socket.socket() for _ in range(4)]
        for waiting in queue:
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for waiting in queue:
            waiting.close()


def test_nothing_listens(ask: Ask, closed_port: int) -> None:
    """A refusal is said to be one, and is worth another try."""
    error = ask(engine(f"http://127.0.0.1:{closed_port}", retries=1)).failed
    assert isinstance(error, APIConnectionError)
    assert "nothing listens" in error.message
    assert len(error.attempts) == 2


def test_a_name_without_an_address(ask: Ask) -> None:
    """Its error says that the name is at fault, whatever the resolver says of why."""
    error = ask(engine("http://no-such-host.invalid", timeouts={"connect": 5.0})).failed
    assert isinstance(error, APIConnectionError)
    assert "leads to no address" in error.message


def test_a_connection_that_is_not_made(ask: Ask, full_port: int) -> None:
    """Connecting has its own end, and is tried again: nothing was asked yet."""
    error = ask(engine(f"http://127.0.0.1:{full_port}", retries=1, timeouts={"connect": 0.1})).failed
    assert isinstance(error, APITimeoutError)
    assert error.phase == "connect"
    assert len(error.attempts) == 2


def test_ipv6(ask: Ask) -> None:
    """An address in brackets is connected to, and named so in Host."""
    try:
        server = Server(GOOD, host="::1")
    except OSError:
        pytest.skip("there is no IPv6 here")
    with server:
        assert ask(engine(server.url)).text == ANSWER
    assert f"host: [::1]:{server.port}\r\n".encode() in server.requests[0].lower()


def test_own_certificates(ask: Ask, authority: tuple[trustme.CA, str], secured: Secured) -> None:
    """A server whose authority is given is trusted."""
    with Server(GOOD, tls=secured("127.0.0.1")) as server:
        assert ask(engine(server.url, certificates=authority[1])).text == ANSWER


def test_certificates_of_the_environment(
    ask: Ask, authority: tuple[trustme.CA, str], secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE counts where nothing else is said."""
    monkeypatch.setenv("SSL_CERT_FILE", authority[1])
    with Server(GOOD, tls=secured("127.0.0.1")) as server:
        assert ask(engine(server.url)).text == ANSWER


def test_certificates_that_cannot_be_read() -> None:
    """Refused when the engine is made."""
    with pytest.raises(ConfigurationError, match="nowhere") as caught:
        engine("https://127.0.0.1", certificates="/nowhere.pem")
    hides(caught.value)


@pytest.mark.parametrize(("name", "known"), [("127.0.0.1", False), ("other.example", True)])
def test_a_server_that_is_not_who_it_says(
    name: str, known: bool, ask: Ask, authority: tuple[trustme.CA, str], secured: Secured
) -> None:
    """An unknown authority and a wrong name are refused once, before anything is sent."""
    with Server(GOOD, tls=secured(name)) as server:
        error = ask(engine(server.url, retries=2, certificates=authority[1] if known else None)).failed
    assert isinstance(error, APIConnectionError)
    assert "CERTIFICATE_VERIFY_FAILED" in error.message
    assert not error.retryable
    assert server.connections == 1
    assert server.requests == []


def test_tls_that_does_not_begin(ask: Ask) -> None:
    """A handshake is part of connecting."""
    with Server([Hold()]) as server:
        error = ask(engine(server.url.replace("http", "https"), timeouts={"connect": 0.15})).failed
    assert isinstance(error, APITimeoutError)
    assert error.phase == "connect"


def test_tls_where_there_is_none(ask: Ask) -> None:
    """To speak https to a port that speaks http is named so, and not tried again."""
    with Server([b"HTTP/1.1 400 Bad Request\r\n\r\n", Hold()]) as server:
        error = ask(engine(server.url.replace("http", "https"), retries=2)).failed
    assert isinstance(error, APIConnectionError)
    assert "secure connection" in error.message
    assert server.connections == 1


def test_a_proxy_is_used(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of http it gets whole addresses, and its password in a header of its own."""
    with Server(GOOD) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:proxy-password@127.0.0.1:{proxy.port}")
        assert ask(engine("http://llama.example/v1")).text == ANSWER
    assert proxy.requests[0].startswith(b"POST http://llama.example/v1/answer HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6cHJveHktcGFzc3dvcmQ=" in proxy.requests[0]


@pytest.mark.parametrize("excepted", ["127.0.0.1", "*", "127.0.0.1:{port}"])
def test_no_proxy(excepted: str, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts in NO_PROXY are reached directly."""
    with Server([Reset()]) as proxy, Server(GOOD) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", excepted.format(port=server.port))
        assert ask(engine(server.url)).text == ANSWER
    assert proxy.connections == 0


def test_a_tunnel(
    ask: Ask, authority: tuple[trustme.CA, str], secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of https a proxy sees the host's name only; the key goes through."""
    script: Script = [Read(), b"HTTP/1.1 200 OK\r\n\r\n", Secure(secured("llama.example")), *GOOD]
    with Server(script) as proxy:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
        assert ask(engine("https://llama.example", certificates=authority[1])).text == ANSWER
    assert proxy.requests[0].startswith(b"CONNECT llama.example:443 HTTP/1.1\r\n")
    assert KEY.encode() not in proxy.requests[0]
    assert KEY.encode() in proxy.requests[1]


def test_a_proxy_that_refuses(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its refusal is not taken for the server's."""
    with Server([Read(), b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"]) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        error = ask(engine("https://llama.example")).failed
    assert isinstance(error, APIConnectionError)
    assert "the proxy refused: 407" in error.message


@pytest.mark.parametrize("address", ["ftp://me:proxy-password@127.0.0.1", "http://"])
def test_a_proxy_that_cannot_be_used(address: str, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named as the environment's fault, without its password."""
    monkeypatch.setenv("http_proxy", address)
    error = ask(engine("http://llama.example")).failed
    assert isinstance(error, ConfigurationError)
    hides(error, "proxy-password")


@pytest.mark.skipif(importlib.util.find_spec("socksio") is not None, reason="SOCKS is installed")
def test_a_proxy_that_needs_more(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """SOCKS comes with an extra of httpx, which the error names."""
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1")
    error = ask(engine("http://llama.example")).failed
    assert isinstance(error, ConfigurationError)
    assert "httpx[socks]" in str(error)


@pytest.mark.parametrize("key", [f"{KEY}\r\nx-injected: 1", f"{KEY}\n", f"{KEY}é", f"{KEY}\x00", f" {KEY}\r"])
def test_a_header_cannot_be_injected(key: str, ask: Ask) -> None:
    """A key with what HTTP does not allow is refused before anything is sent, and not repeated."""
    with Server(GOOD) as server:
        error = ask(engine(server.url, api_key=key)).failed
    assert isinstance(error, ConfigurationError)
    assert "does not allow" in error.message
    assert server.requests == []


@pytest.mark.parametrize("url", ["http://a..b", f"http://{'a' * 70}.example", "http://127.0.0.1/\x7f"])
def test_an_address_that_cannot_be_one(url: str, ask: Ask) -> None:
    """Refused as a setting, not as a broken connection."""
    assert isinstance(ask(engine(url, retries=2)).failed, ConfigurationError)


def test_a_missing_key(ask: Ask) -> None:
    """An error of signing is raised unchanged, and not retried."""
    with Server(GOOD) as server:
        assert isinstance(ask(engine(server.url, retries=2, api_key="missing")).failed, AuthenticationError)
    assert server.connections == 0


def test_a_large_request(ask: Ask) -> None:
    """Sixteen megabytes arrive as they were sent."""
    prompt = "llama " * (16 * 2**20 // 6)
    with Server(GOOD) as server:
        assert ask(engine(server.url), prompt).text == ANSWER
    assert server.requests[0].endswith(f'{{"prompt":"{prompt}"}}'.encode())


def test_a_large_request_that_is_refused_unread(ask: Ask) -> None:
    """An answer that comes before all was sent counts."""
    script: Script = [answer(b"", "413 Too Large", connection="close"), Hold()]
    with Server(script) as server:
        error = ask(engine(server.url, timeouts={"total": 5.0}), "llama " * 2**10).failed
    assert isinstance(error, APIError)
    assert error.status == 413


@pytest.mark.parametrize("way", ["sync", "async"])
def test_connections_are_used_again(way: str) -> None:
    """Two answers, one connection."""
    with Server([*GOOD, *GOOD]) as server:
        first, second = twice(engine(server.url), way)
    assert (first.text, second.text) == (ANSWER, ANSWER)
    assert server.connections == 1


STALE: dict[str, Script] = {
    "hung up": [*GOOD],
    "hung up when asked": [*GOOD, Read()],
    "reset when asked": [*GOOD, Read(), Reset()],
}


@pytest.mark.parametrize("name", STALE)
@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_idle_connection_that_is_gone(name: str, way: str) -> None:
    """It is replaced silently, although nothing is to be tried again; only one attempt is counted."""
    with Server(STALE[name], GOOD) as server:
        first, second = twice(engine(server.url), way)
    assert (first.text, second.text) == (ANSWER, ANSWER)
    assert len(second.finish.attempts) == 1
    assert server.connections == 2


@pytest.mark.parametrize("way", ["sync", "async"])
def test_an_idle_connection_that_breaks_within_an_answer(way: str) -> None:
    """Once the answer's head came back the request may have been worked on, and is not sent again.

    Of a head that breaks off this no longer holds: httpx reports it in the same words as no answer at all, so that the
    request is sent once more.
    """
    with Server([*GOOD, Read(), b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"], GOOD) as server:
        _, second = twice(engine(server.url), way)
    assert isinstance(second.failed, APIConnectionError)
    assert server.connections == 1
    with Server([*GOOD, Read(), b"HTTP/1.1 2"], [Read(), b"HTTP/1.1 2"], GOOD) as server:
        _, second = twice(engine(server.url), way)
    assert isinstance(second.failed, APIConnectionError)
    assert server.connections == 2


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_second_connection_that_is_gone(way: str) -> None:
    """Only an idle connection is replaced, once: what a new one does is an attempt."""
    with Server([*GOOD, Read()], [Read()]) as server:
        _, second = twice(engine(server.url), way)
    assert isinstance(second.failed, APIConnectionError)
    assert server.connections == 2


class Rotating(SmallDialect):
    """Signs every try with something new."""

    token = ""

    def authorize(self, call: Call) -> Call:
        self.token = f"token-{len(self.asked)}-of-many"
        return call.with_headers(Authorization=self.token)

    def secrets(self) -> Sequence[str]:
        return (self.token,)


def test_the_newest_secret_is_hidden(ask: Ask) -> None:
    """Also one that came only after the request began."""
    with Server(
        [Read(), answer(b"bad token-1-of-many", "503 No")], [Read(), answer(b"bad token-2-of-many", "401 No")]
    ) as server:
        remote = engine(server.url, retries=1)
        remote.dialect = Rotating(remote.endpoint)
        error = ask(remote).failed
    assert isinstance(error, AuthenticationError)
    assert "bad [hidden]" in error.message
    assert [attempt.error for attempt in error.attempts if "of-many" in str(attempt.error)] == []


def test_remedies_are_tried_once(ask: Ask) -> None:
    """A dialect's remedy for an error is used at the next attempt, which neither waits nor counts as a retry."""
    denied: Script = [Read(), answer(b"", "401 Unauthorized")]
    with Server(denied, GOOD) as server:
        remote = engine(server.url)
        assert isinstance(remote.dialect, SmallDialect)
        remote.dialect.remedies = {AuthenticationError: "fresh"}
        asked = ask(remote)
    assert asked.text == ANSWER
    assert remote.dialect.asked == [frozenset(), frozenset({"fresh"})]
    assert [attempt.wait for attempt in asked.finish.attempts] == [0.0, None]
