"""Where an engine is that runs elsewhere, and how patient and persistent its caller is."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, SecretStr

from llama4sdk._values import Value
from llama4sdk.events import Attempt

__all__ = ["LOOPBACK", "Endpoint", "RetryPolicy", "Timeouts", "is_loopback"]

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("an endpoint's url begins with http:// or https:// and a host")
    if parts.username or parts.password:
        raise ValueError("an endpoint's url holds no password; pass api_key")
    if parts.query or parts.fragment:
        raise ValueError("an endpoint's url has no query")
    _ = parts.port  # raises ValueError for one that is no number
    return url.rstrip("/")


class Timeouts(Value):
    """Seconds that may pass; ``None`` for no limit."""

    connect: Seconds = 10.0
    """To a connection, name lookup and TLS included."""
    first_byte: Seconds | None = 600.0
    """From the request to the first piece of the answer. Of an answer that comes whole, that is all of its making."""
    between: Seconds | None = 120.0
    """Between two pieces of an answer."""
    total: Seconds | None = None
    """For everything, retries included."""


class RetryPolicy(Value):
    """When a request that failed before its first token is sent again.

    No endpoint promises to bill an answer only once that was asked for twice.
    """

    retries: Annotated[int, Field(ge=0, le=20)] = 2
    """How often at most, on top of the first try."""
    base: Seconds = 0.5
    """Before the first retry at most; each further one may wait twice as long."""
    throttled: Seconds = 1.0
    """The same where the endpoint said that it is asked too often."""
    longest: Seconds = 20.0
    """Between two tries at most, unless the endpoint names a time."""
    longest_hint: Seconds = 60.0
    """A time the endpoint names is kept to when it is no longer than this; otherwise the request fails at once."""
    timeouts: bool = False
    """Whether to ask again when no answer came in time. It may be bought twice."""


class Endpoint(Value):
    """One server. Everything may be left out: a backend knows its own address and where its key is kept."""

    model_config = ConfigDict(hide_input_in_errors=True)  # an address may hold a password

    url: Annotated[str, AfterValidator(_address)] | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    headers: dict[str, SecretStr] = Field(default_factory=dict, exclude=True, repr=False)
    """Sent with every request, the backend's own included: organization, project, routing."""
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """What only one backend understands; see its documentation."""
    certificates: str | None = None
    """A file of certificates to trust instead of the system's."""
    on_attempt: Callable[[Attempt], None] | None = Field(default=None, exclude=True, repr=False)
    """Told of every try as soon as it is over, in the thread that made it. What it raises is logged, no more."""

    @property
    def addressed(self) -> bool:
        """Whether it is one certain server, or how one is to be asked, and not patience alone."""
        return bool(self.url or self.api_key or self.headers or self.options)

    def secrets(self) -> tuple[str, ...]:
        """What must not appear in any message."""
        key = () if self.api_key is None else (self.api_key.get_secret_value(),)
        return *key, *(value.get_secret_value() for value in self.headers.values())


def is_loopback(url: str) -> bool:
    """Whether it is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may begin with 127, too
        return host in LOOPBACK
