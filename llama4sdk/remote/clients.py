"""The httpx clients that calls are sent with: ours, several for each server, or the user's own."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

import httpx

from llama4sdk.endpoint import Endpoint, Timeouts, is_async_client
from llama4sdk.errors import ConfigurationError
from llama4sdk.remote.dialect import Call
from llama4sdk.remote.threaded_client import ThreadedClient
from llama4sdk.remote.tls_and_proxy import TrustStore, proxy_for

if TYPE_CHECKING:
    from llama4sdk.endpoint import HttpClient

#: Seconds after which an idle connection is not used again.
MAX_IDLE_SECONDS: Final = 30.0

#: Requests that one httpx client sends at a time. Its pool looks at every connection, idle ones with a system call,
#: before and after every request, so that one client for 500 streams spends most of its time in there:
#: https://github.com/encode/httpx/issues/3215
MAX_REQUESTS_PER_CLIENT: Final = 8

LIMITS: Final = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=MAX_IDLE_SECONDS)

Origin: TypeAlias = tuple[str, str, int | None]


class Sender(Protocol):
    """Sends calls with one httpx client."""

    async def send(self, call: Call, headers: dict[str, str], trace: object) -> httpx.Response:
        """Send a call with these headers, and read the response's head; ``trace`` is the extension of that name."""


@dataclass(eq=False, slots=True)
class _Shard:
    client: _PlainClient
    requests: int = 0
    idle_since: float = 0.0


class Clients:
    """The clients of one event loop."""

    def __init__(self, trust_store: TrustStore, endpoint: Endpoint) -> None:
        self._trust_store = trust_store
        self._endpoint = endpoint
        self._shards: dict[Origin, list[_Shard]] = {}

    @asynccontextmanager
    async def use(self, url: httpx.URL) -> AsyncIterator[Sender]:
        """The client for one request to this server: the user's, or our first that is not full.

        Later clients fall idle first. Raises ConfigurationError for a client that the user has closed.
        """
        if (http_client := self._endpoint.http_client) is not None:
            yield _users_client(http_client, self._endpoint.timeouts)
            return
        shards = self._shards.setdefault((url.scheme, url.host, url.port), [])
        shard = next((shard for shard in shards if shard.requests < MAX_REQUESTS_PER_CLIENT), None)
        if shard is None:
            shard = _Shard(_new_client(url, self._trust_store))
            shards.append(shard)
        shard.requests += 1
        try:
            yield shard.client
        finally:
            shard.requests -= 1
            shard.idle_since = time.monotonic()
            await _close_idle(shards)

    async def close(self) -> None:
        """Close every connection."""
        shards = [shard for shards in self._shards.values() for shard in shards]
        self._shards.clear()
        for shard in shards:
            await shard.client.aclose()


def _users_client(http_client: HttpClient, timeouts: Timeouts) -> Sender:
    if http_client.is_closed:
        raise ConfigurationError(
            "The http_client was closed.", hint="Keep it open for as long as the client that it was given to."
        )
    if is_async_client(http_client):
        return _UsersAsyncClient(cast("httpx.AsyncClient", http_client))
    return ThreadedClient(cast("httpx.Client", http_client), timeouts)


async def _close_idle(shards: list[_Shard]) -> None:
    """Close the last clients where nothing was sent for a while: httpx looks at idle connections only when it sends."""
    while len(shards) > 1 and not shards[-1].requests and shards[-1].idle_since + MAX_IDLE_SECONDS < time.monotonic():
        await shards.pop().client.aclose()


class _PlainClient(httpx.AsyncHTTPTransport):
    """A transport of httpx by itself: no redirects, no cookies, nothing from the environment.

    ``httpx.AsyncClient`` around it would prepare for these for every request, which takes a third of its time.
    """

    async def send(self, call: Call, headers: dict[str, str], trace: object) -> httpx.Response:
        """Send the call as it is; a request without timeouts in it has none."""
        url, extensions = parse_url(call.url), {"trace": trace}
        request = httpx.Request(call.method, url, headers=headers, content=call.content, extensions=extensions)
        return await self.handle_async_request(request)


@dataclass(frozen=True)
class _UsersAsyncClient:
    client: httpx.AsyncClient

    async def send(self, call: Call, headers: dict[str, str], trace: object) -> httpx.Response:
        request = self.client.build_request(
            call.method, call.url, headers=headers, content=call.content, timeout=None, extensions={"trace": trace}
        )
        return await self.client.send(request, stream=True, follow_redirects=False)


@lru_cache(maxsize=256)
def parse_url(url: str) -> httpx.URL:
    """Parse an address. Raises one of ``transport_errors`` where it is none of a server's."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol("neither http nor https")
    parsed.host.encode("idna")  # raises UnicodeError for what can be no name, which resolvers report as an unknown one
    return parsed


def _new_client(url: httpx.URL, trust_store: TrustStore) -> _PlainClient:
    """A client for one server. The certificates for https are not read where only http is spoken."""
    try:
        return _PlainClient(
            verify=trust_store.context if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=proxy_for(url, trust_store),
            trust_env=False,
            limits=LIMITS,
        )
    except ImportError:
        raise ConfigurationError(
            "The environment names a SOCKS proxy.", hint="pip install 'httpx[socks]' to go through it."
        ) from None
