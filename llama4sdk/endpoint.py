"""The server of a remote engine: address, credentials, timeouts, retries, and the HTTP client to reach it with."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, SecretStr

from llama4sdk._values import Value
from llama4sdk.events import Attempt

if TYPE_CHECKING:
    import httpx

__all__ = ["LOOPBACK", "Endpoint", "RetryPolicy", "Timeouts", "is_async_client", "is_http_client", "is_loopback"]

#: Headers that every httpx client sends, and that are no secret.
_PUBLIC_HEADERS: Final = frozenset({"accept", "accept-encoding", "connection", "user-agent"})

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


def is_http_client(client: object) -> bool:
    """Whether this is a client of httpx, or of httpx2, which has the same interface. Loads neither."""
    return bool(_httpx_classes(client) & {"Client", "AsyncClient"})


def is_async_client(client: object) -> bool:
    """Whether this is an ``httpx.AsyncClient``, or httpx2's."""
    return "AsyncClient" in _httpx_classes(client)


def _httpx_classes(client: object) -> set[str]:
    bases = type(client).__mro__
    return {base.__name__ for base in bases if base.__module__.partition(".")[0] in ("httpx", "httpx2")}


def _http_client(client: object) -> object:
    if not is_http_client(client):
        raise ValueError("an endpoint's http_client is an httpx.Client or an httpx.AsyncClient")
    return client


if TYPE_CHECKING:
    HttpClient: TypeAlias = httpx.Client | httpx.AsyncClient
else:
    HttpClient = Annotated[Any, AfterValidator(_http_client)]


class Timeouts(Value):
    """Seconds that each phase of a request may take; ``None`` for no limit."""

    #: To a connection, name lookup and TLS included.
    connect: Seconds = 10.0
    #: From the request to the first piece of the answer. Of an answer that comes whole, that is all of its making.
    first_byte: Seconds | None = 600.0
    #: Between two pieces of an answer.
    between: Seconds | None = 120.0
    #: For everything, retries included.
    total: Seconds | None = None


class RetryPolicy(Value):
    """When a request that failed before its first token is sent again.

    No endpoint promises to bill an answer only once that was asked for twice.
    """

    #: How often at most, on top of the first try.
    retries: Annotated[int, Field(ge=0, le=20)] = 2
    #: Before the first retry at most; each further one may wait twice as long.
    base: Seconds = 0.5
    #: The same where the endpoint said that it is asked too often.
    throttled: Seconds = 1.0
    #: Between two tries at most, unless the endpoint names a time.
    longest: Seconds = 20.0
    #: A time the endpoint names is kept to when it is no longer than this; otherwise the request fails at once.
    longest_hint: Seconds = 60.0
    #: Whether to ask again when no answer came in time. It may be bought twice.
    timeouts: bool = False


class Endpoint(Value):
    """One server. Everything may be left out: a backend knows its own address and where its key is kept."""

    model_config = ConfigDict(hide_input_in_errors=True)  # an address may hold a password

    url: Annotated[str, AfterValidator(_address)] | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    #: Sent with every request, the backend's own included: organization, project, routing.
    headers: dict[str, SecretStr] = Field(default_factory=dict, exclude=True, repr=False)
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    #: Options of a single backend; see its documentation.
    options: dict[str, JsonValue] = Field(default_factory=dict)
    #: A file of certificates to trust instead of the system's.
    certificates: str | None = None
    #: Called with every attempt as soon as it is over, in the thread that made the request. What it raises is logged.
    on_attempt: Callable[[Attempt], None] | None = Field(default=None, exclude=True, repr=False)

    #: An httpx client of your own to send with: proxies, certificates, hooks, instrumentation. It is never closed here.
    http_client: HttpClient | None = Field(default=None, exclude=True, repr=False)

    @property
    def addressed(self) -> bool:
        """Whether this names a server or how to reach one, rather than timeouts and retries alone."""
        return bool(self.url or self.api_key or self.headers or self.options or self.http_client is not None)

    def secrets(self) -> tuple[str, ...]:
        """The texts that must not appear in any message."""
        key = () if self.api_key is None else (self.api_key.get_secret_value(),)
        return *key, *(value.get_secret_value() for value in self.headers.values()), *self._client_secrets()

    def _client_secrets(self) -> list[str]:
        if self.http_client is None:
            return []
        headers = self.http_client.headers.items()
        values = [value for name, value in headers if name.lower() not in _PUBLIC_HEADERS]
        return [part for value in values for part in {value, value.rpartition(" ")[2]}]


def is_loopback(url: str) -> bool:
    """Whether it is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name, which may begin with 127, too
        return host in LOOPBACK
