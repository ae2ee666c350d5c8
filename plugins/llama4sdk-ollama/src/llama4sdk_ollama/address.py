"""The server's address, headers and options: ``OLLAMA_HOST``, ``OLLAMA_API_KEY``, ``Endpoint(options=...)``."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, JsonValue

from llama4sdk._values import Value
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import ConfigurationError
from llama4sdk.remote.endpoint_options import parse_endpoint_options

BACKEND: Final = "ollama"
DEFAULT_PORT: Final = 11434
CLOUD_HOST: Final = "ollama.com"

#: Addresses on which a server listens, and those at which it is reached.
WILDCARD_ADDRESSES: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound to it here

#: Options of a request that the SDK sets itself.
RESERVED_OPTIONS: Final = (
    *("num_ctx", "num_predict", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "stop"),
)


class OllamaOptions(Value):
    """The ``Endpoint.options`` of this backend."""

    #: How long the server keeps the model in memory after an answer: "30m", seconds, -1 for ever.
    keep_alive: str | float | None = None
    #: Whether making the engine loads the model, instead of the first request.
    preload: bool = True
    #: Seconds that loading may take.
    load_timeout: Annotated[float, Field(gt=0)] = 1800.0
    #: Ollama's own options for every request, such as ``num_gpu`` and ``num_thread``.
    options: dict[str, JsonValue] = Field(default_factory=dict)


def parse_options(endpoint: Endpoint) -> OllamaOptions:
    """Validate an endpoint's options. Raises ConfigurationError for unknown ones and those that the SDK sets itself."""
    manual = "The README of llama4sdk-ollama"
    options = parse_endpoint_options(OllamaOptions, endpoint.options, backend=BACKEND, manual=manual)
    if reserved := sorted(set(options.options) & set(RESERVED_OPTIONS)):
        raise ConfigurationError(
            f"Endpoint(options=...) of Ollama sets {', '.join(reserved)}, which the client says itself.",
            hint="Pass context_length= to the client, the rest with each request.",
        )
    return options


def parse_host(host: str | None) -> str:
    """Return the address that a value of ``OLLAMA_HOST`` means, by the rules of Ollama's own client.

    Raises ConfigurationError for a value that is no address.
    """
    text = (host or "").strip()
    scheme, separator, rest = text.partition("://")
    if text == CLOUD_HOST:
        return f"https://{CLOUD_HOST}:443"
    if not separator:
        scheme, rest = "http", text
    port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if separator else DEFAULT_PORT
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        name, port = parts.hostname or "127.0.0.1", parts.port or port
    except ValueError as error:
        raise _invalid_host() from error
    if scheme not in ("http", "https") or parts.username or parts.password:
        raise _invalid_host()
    name = WILDCARD_ADDRESSES.get(name, name)
    try:
        if isinstance(ipaddress.ip_address(name), ipaddress.IPv6Address):
            name = f"[{name}]"
    except ValueError:
        pass
    path = parts.path.strip("/")
    return f"{scheme}://{name}:{port}" + (f"/{path}" if path else "")


def server_url(endpoint: Endpoint) -> str:
    """Return the endpoint's address, else that of ``OLLAMA_HOST``, else this machine's."""
    url = endpoint.url or parse_host(os.environ.get("OLLAMA_HOST"))
    return url.removesuffix("/v1").removesuffix("/api")


def server_headers(endpoint: Endpoint) -> dict[str, str]:
    """Return the headers of every request: the endpoint's, and its key or that of ``OLLAMA_API_KEY``."""
    headers = {name: value.get_secret_value() for name, value in endpoint.headers.items()}
    key = endpoint.api_key.get_secret_value() if endpoint.api_key else os.environ.get("OLLAMA_API_KEY", "").strip()
    if key and "authorization" not in map(str.lower, headers):
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _invalid_host() -> ConfigurationError:
    return ConfigurationError(
        "OLLAMA_HOST is no address.", hint="Write it as host, host:port or https://host:port; a key is OLLAMA_API_KEY."
    )
