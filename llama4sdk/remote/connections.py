"""Connections that are used again: one to send each request on.

httpcore's own pool looks at every connection before and after every request, under a lock: work that grows with the
number of streams. Here the connection that became idle last is taken from the top of a pile.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import httpcore

from llama4sdk.errors import ConfigurationError
from llama4sdk.remote.anetwork import AsyncNetwork
from llama4sdk.remote.clock import Limit
from llama4sdk.remote.network import Network
from llama4sdk.remote.surroundings import Trust, proxy_for

__all__ = ["AsyncConnections", "AsyncExchange", "Connections", "Exchange"]

IDLE: Final = 30.0
"""Seconds after which an idle connection is not used again."""

BROKEN: Final = (httpcore.NetworkError, httpcore.RemoteProtocolError)
"""What a server that has closed an idle connection looks like, once something is sent on it."""

C = TypeVar("C", httpcore.ConnectionInterface, httpcore.AsyncConnectionInterface)


class Place(Generic[C]):
    """One server: how to connect to it, and the connections that wait, the last used on top.

    Every step is one that threads cannot divide, so there is no lock that garbage collection could meet taken.
    """

    def __init__(self, connect: Callable[[], C]) -> None:
        self.connect: Callable[[], C] = connect
        self._idle: deque[C] = deque()

    def put(self, connection: C) -> C | None:
        """Keep an idle one; gives back one that has waited too long and is to be closed."""
        self._idle.append(connection)
        oldest = self.oldest()
        if oldest is not None and not oldest.has_expired():
            self._idle.appendleft(oldest)
            return None
        return oldest

    def newest(self) -> C | None:
        """Take the one that was used last."""
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def oldest(self) -> C | None:
        """Take the one that was used first."""
        try:
            return self._idle.popleft()
        except IndexError:
            return None


class Exchange:
    """A request under way; its connection is free again, or closed, once it is over."""

    def __init__(self, place: Place[httpcore.ConnectionInterface], connection: httpcore.ConnectionInterface) -> None:
        self._place = place
        self._connection = connection
        self.response: Any = None

    def send(self, request: httpcore.Request) -> None:
        """Send it, and read what stands before the answer's body."""
        try:
            self.response = self._connection.handle_request(request)
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Once only, and only after ``send``."""
        self.response.close()
        spent = self._place.put(self._connection) if self._connection.is_idle() else self._connection
        if spent is not None:
            spent.close()


class Connections:
    """Of one engine; safe to use from several threads."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._network = Network()
        self._places: dict[str, Place[httpcore.ConnectionInterface]] = {}

    def send(self, request: httpcore.Request) -> Exchange:
        """Start an exchange. Where the server had hung up on an idle connection, another one is made."""
        place = self._place(request.url)
        while (connection := place.newest()) is not None:
            if connection.has_expired():
                connection.close()
                continue
            exchange = Exchange(place, connection)
            try:
                exchange.send(request)
            except BROKEN:
                if _heard(request) or self._network.closed:
                    raise
                break
            return exchange
        exchange = Exchange(place, place.connect())
        exchange.send(request)
        return exchange

    def close(self) -> None:
        """Wake whoever waits, and close what is idle."""
        self._network.close()
        for place in list(self._places.values()):
            while (connection := place.newest()) is not None:
                connection.close()

    def _place(self, url: httpcore.URL) -> Place[httpcore.ConnectionInterface]:
        name = str(url.origin)
        place = self._places.get(name)
        if place is None:
            pool = httpcore.ConnectionPool(**_options(url, self._trust), network_backend=self._network)
            place = self._places.setdefault(name, Place(_maker(pool, url.origin)))
        return place


class AsyncExchange:
    """The twin of ``Exchange``."""

    def __init__(
        self, place: Place[httpcore.AsyncConnectionInterface], connection: httpcore.AsyncConnectionInterface
    ) -> None:
        self._place = place
        self._connection = connection
        self.response: Any = None

    async def send(self, request: httpcore.Request) -> None:
        """Send it, and read what stands before the answer's body."""
        try:
            self.response = await self._connection.handle_async_request(request)
        except BaseException:
            await self._connection.aclose()
            raise

    async def close(self) -> None:
        """Once only, and only after ``send``."""
        await self.response.aclose()
        spent = self._place.put(self._connection) if self._connection.is_idle() else self._connection
        if spent is not None:
            await spent.aclose()


class AsyncConnections:
    """The twin of ``Connections``, for one event loop."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._network = AsyncNetwork()
        self._places: dict[str, Place[httpcore.AsyncConnectionInterface]] = {}

    async def send(self, request: httpcore.Request) -> AsyncExchange:
        """Start an exchange. Where the server had hung up on an idle connection, another one is made."""
        place = self._place(request.url)
        while (connection := place.newest()) is not None:
            if connection.has_expired():
                await connection.aclose()
                continue
            exchange = AsyncExchange(place, connection)
            try:
                await exchange.send(request)
            except BROKEN:
                if _heard(request) or self._network.closed:
                    raise
                break
            return exchange
        exchange = AsyncExchange(place, place.connect())
        await exchange.send(request)
        return exchange

    def close(self) -> None:
        """Break every connection; to be called in the loop's own thread."""
        self._network.close()
        self._places.clear()

    def _place(self, url: httpcore.URL) -> Place[httpcore.AsyncConnectionInterface]:
        name = str(url.origin)
        place = self._places.get(name)
        if place is None:
            pool = httpcore.AsyncConnectionPool(**_options(url, self._trust), network_backend=self._network)
            place = self._places[name] = Place(_maker(pool, url.origin))
        return place


def _options(url: httpcore.URL, trust: Trust) -> dict[str, Any]:
    proxy = proxy_for(url, trust)
    return {"ssl_context": trust.context if url.scheme == b"https" else None, "proxy": proxy, "keepalive_expiry": IDLE}


def _maker(pool: Any, origin: httpcore.Origin) -> Callable[[], Any]:
    """Of httpcore's pools only the way they make connections is used."""

    def make() -> Any:
        try:
            return pool.create_connection(origin)
        except ImportError:
            raise ConfigurationError(
                "The environment names a SOCKS proxy.", hint="pip install 'httpx[socks]' to go through it."
            ) from None

    return make


def _heard(request: httpcore.Request) -> bool:
    limit: Limit = request.extensions["timeout"]["read"]
    return limit.heard
