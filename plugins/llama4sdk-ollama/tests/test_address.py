"""The server's address, headers and options."""

from __future__ import annotations

import pytest
from llama4sdk_ollama.address import parse_host, parse_options, server_headers, server_url
from ollama._client import _parse_host
from pydantic import SecretStr

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import ConfigurationError

HOSTS = [
    *("", "1.2.3.4", ":56789", "1.2.3.4:56789", "http://1.2.3.4", "https://1.2.3.4", "https://1.2.3.4:56789"),
    *("example.com", "example.com:56789", "http://example.com", "https://example.com", "example.com/"),
    *("example.com/path", "example.com:56789/path/", "https://example.com:56789/path", "[0001:002:003:0004::1]"),
    *("[::1]:56789", "http://[0001:002:003:0004::1]", "https://[::1]/path/", "[::1]:56789/path/"),
]


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_are_parsed_like_ollamas_client_does(host: str) -> None:
    """Each form of its documentation gives the same address."""
    assert parse_host(host) == _parse_host(host)
    assert parse_host(None) == "http://127.0.0.1:11434"


def test_wildcard_addresses_become_loopback_addresses() -> None:
    """``OLLAMA_HOST=0.0.0.0`` is often set for the server's sake."""
    assert parse_host("0.0.0.0:1234") == "http://127.0.0.1:1234"
    assert parse_host("http://[::]:1234") == "http://[::1]:1234"
    assert parse_host("ollama.com") == "https://ollama.com:443"  # the client would send keys in clear


@pytest.mark.parametrize("host", ["host:port", "ftp://host", "http://me:secret@host", "host:99999", "http://[::1"])
def test_an_invalid_address_is_not_repeated(host: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError, match="OLLAMA_HOST is no address") as caught:
        parse_host(host)
    assert "secret" not in str(caught.value)


def test_an_endpoint_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address and key take precedence; the paths of other APIs are removed."""
    monkeypatch.setenv("OLLAMA_HOST", "there:1")
    monkeypatch.setenv("OLLAMA_API_KEY", " from-outside ")
    assert server_url(Endpoint()) == "http://there:1"
    assert (
        server_url(Endpoint(url="http://here:2/v1")) == server_url(Endpoint(url="http://here:2/api")) == "http://here:2"
    )
    assert server_headers(Endpoint()) == {"Authorization": "Bearer from-outside"}
    assert server_headers(Endpoint(api_key=SecretStr("mine"))) == {"Authorization": "Bearer mine"}
    custom = Endpoint(headers={"authorization": SecretStr("Basic x"), "x_team": SecretStr("y")})
    assert server_headers(custom) == {"authorization": "Basic x", "x_team": "y"}


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"keepalive": "1h"}, "keepalive"),
        ({"load_timeout": 0}, "load_timeout"),
        ({"options": {"num_ctx": 8}}, "sets num_ctx"),
        ({"options": {"temperature": 1, "stop": []}}, "sets stop, temperature"),
    ],
)
def test_wrong_options_are_errors(options: dict[str, object], match: str) -> None:
    """The error names the option and has a hint."""
    with pytest.raises(ConfigurationError, match=match) as caught:
        parse_options(Endpoint.model_validate({"options": options}))
    assert caught.value.hint
