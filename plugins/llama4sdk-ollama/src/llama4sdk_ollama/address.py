"""Where the server is, and what may be set: ``OLLAMA_HOST``, ``OLLAMA_API_KEY``, ``Endpoint(options=...)``."""

from __future__ import annotations

import ipaddress
import os
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import Field, JsonValue, ValidationError

from llama4sdk._text import in_words
from llama4sdk._values import Value
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import ConfigurationError

__all__ = ["BACKEND", "Settings", "headers_of", "parse_host", "url_of"]

BACKEND: Final = "ollama"
PORT: Final = 11434
CLOUD: Final = "ollama.com"
ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where a server listens is no place to connect to
OWN: Final = ("num_ctx", "num_predict", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "seed", "stop")


class Settings(Value):
    """What ``Endpoint(options=...)`` may hold."""

    keep_alive: str | float | None = None
    """How long the server keeps the model in memory after an answer: "30m", seconds, -1 for ever."""
    preload: bool = True
    """Whether making the engine loads the model, instead of the first request."""
    load_timeout: Annotated[float, Field(gt=0)] = 1800.0
    """Seconds that loading may take."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Ollama's own options for every request, such as ``num_gpu`` and ``num_thread``."""

    @classmethod
    def of(cls, endpoint: Endpoint) -> Settings:
        """Raises ConfigurationError for what there is not, and for what a request or a client says itself."""
        try:
            settings = cls.model_validate(endpoint.options)
        except ValidationError as error:
            known = ", ".join(cls.model_fields)
            raise ConfigurationError(
                f"Endpoint(options=...) of Ollama: {in_words(error)}.", hint=f"There are {known}."
            ) from error
        if taken := sorted(set(settings.options) & set(OWN)):
            raise ConfigurationError(
                f"Endpoint(options=...) of Ollama sets {', '.join(taken)}, which the client says itself.",
                hint="Pass context_length= to the client, the rest with each request.",
            )
        return settings


def parse_host(host: str | None) -> str:
    """The address that a value of ``OLLAMA_HOST`` means, as Ollama's own client has it.

    Raises ConfigurationError for one that means nothing.
    """
    text = (host or "").strip()
    scheme, found, rest = text.partition("://")
    if text == CLOUD:
        return f"https://{CLOUD}:443"
    if not found:
        scheme, rest = "http", text
    port = {"http": 80, "https": 443}.get(scheme, PORT) if found else PORT
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        name, port = parts.hostname or "127.0.0.1", parts.port or port
    except ValueError as error:
        raise _no_address() from error
    if scheme not in ("http", "https") or parts.username or parts.password:
        raise _no_address()
    name = ANYWHERE.get(name, name)
    try:
        if isinstance(ipaddress.ip_address(name), ipaddress.IPv6Address):
            name = f"[{name}]"
    except ValueError:
        pass
    path = parts.path.strip("/")
    return f"{scheme}://{name}:{port}" + (f"/{path}" if path else "")


def url_of(endpoint: Endpoint) -> str:
    """The server's address: the endpoint's, or that of ``OLLAMA_HOST``, or this machine's."""
    url = endpoint.url or parse_host(os.environ.get("OLLAMA_HOST"))
    return url.removesuffix("/v1").removesuffix("/api")


def headers_of(endpoint: Endpoint) -> dict[str, str]:
    """What every request carries: the endpoint's headers, and its key or that of ``OLLAMA_API_KEY``."""
    headers = {name: value.get_secret_value() for name, value in endpoint.headers.items()}
    key = endpoint.api_key.get_secret_value() if endpoint.api_key else os.environ.get("OLLAMA_API_KEY", "").strip()
    if key and "authorization" not in map(str.lower, headers):
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _no_address() -> ConfigurationError:
    return ConfigurationError(
        "OLLAMA_HOST is no address.", hint="Write it as host, host:port or https://host:port; a key is OLLAMA_API_KEY."
    )
