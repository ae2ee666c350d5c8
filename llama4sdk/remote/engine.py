"""``RemoteEngine``: an ``Engine`` made of a dialect and a transport, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple

from llama4sdk.backend import Engine
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, Llama4Error, StreamClosedError
from llama4sdk.events import Event, Finish, Usage
from llama4sdk.remote.attempts import Health, Tries
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.surroundings import Trust
from llama4sdk.remote.transport import AsyncTransport, Transport
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings

__all__ = ["RemoteEngine"]

AT_ONCE: Final = 8
"""Calls that one ``embed`` has under way."""


class RemoteEngine(Engine):
    """One model at one endpoint. Safe to use from several threads and event loops."""

    def __init__(
        self,
        *,
        model: str,
        context_length: int,
        dialect: Dialect,
        endpoint: Endpoint,
        cost: Callable[[Usage], float | None] = lambda usage: None,
    ) -> None:
        """``cost`` is what an answer of such usage costs in US dollars, as far as that is known."""
        self.model = model
        self.context_length = context_length
        self.dialect = dialect
        self.endpoint = endpoint
        self._cost = cost
        self._health = Health()
        self._trust = Trust(endpoint.certificates)
        self._transport = Transport(self._trust)
        self._loops: dict[asyncio.AbstractEventLoop, _Home] = {}
        self._closed = threading.Event()

    def stream(self, request: Request) -> Iterator[Event]:
        """Answer a request; see ``Engine.stream``. What failed before its first event may be asked again."""
        tries = self._tries()
        while True:
            call, reader = self.dialect.ask(request, tries.remedies)
            try:
                tries.begin()
                yield from self._answer(self.dialect.authorize(call), reader, tries)
            except Llama4Error as error:
                wait = self._failed(tries, error)
            else:
                return
            self._transport.rest(wait)

    def _answer(self, call: Call, reader: Reader, tries: Tries) -> Iterator[Event]:
        with self._transport.open(call, tries.clock, self.dialect.backend) as reply:
            if not reply.head.ok:
                raise self.dialect.failure(reply.head, reply.explanation())
            reader.begin(reply.head)
            try:
                for data in reply:
                    for event in reader.feed(data):
                        tries.answered()
                        yield event
                        self._ensure_open()
                    if reader.done and not tries.clock.linger():
                        break
            except APIError:
                if not reader.done:
                    raise
        for event in reader.end():
            yield self._last(event, tries)

    async def astream(self, request: Request) -> AsyncIterator[Event]:
        """The same for asyncio, without a thread."""
        tries = self._tries()
        transport = await self._async_transport()
        while True:
            call, reader = self.dialect.ask(request, tries.remedies)
            try:
                tries.begin()
                call = await self._authorize(call)
                async with transport.open(call, tries.clock, self.dialect.backend) as reply:
                    if not reply.head.ok:
                        raise self.dialect.failure(reply.head, await reply.explanation())
                    reader.begin(reply.head)
                    try:
                        async for data in reply:
                            for event in reader.feed(data):
                                tries.answered()
                                yield event
                                self._ensure_open()
                            if reader.done and not tries.clock.linger():
                                break
                    except APIError:
                        if not reader.done:
                            raise
                for event in reader.end():
                    yield self._last(event, tries)
            except Llama4Error as error:
                wait = self._failed(tries, error)
            else:
                return
            await transport.rest(wait)

    def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector per input; several calls run side by side where the endpoint takes few inputs at once."""
        calls = self.dialect.embed(request)
        if len(calls) == 1:
            answers = [self.fetch(calls[0])]
        else:
            with ThreadPoolExecutor(min(AT_ONCE, len(calls)), thread_name_prefix="llama4sdk-embed") as pool:
                answers = list(pool.map(self.fetch, calls))
        return self.dialect.embeddings(request, answers)

    def count_tokens(self, request: Request) -> int:
        """As the endpoint counts."""
        return self.dialect.counted(*self.fetch(self.dialect.count(request)))

    def fetch(self, call: Call) -> tuple[Head, bytes]:
        """A whole answer, asked for again as an answer in a stream is. Raises for any status but 2xx."""
        tries = self._tries()
        while True:
            try:
                tries.begin()
                with self._transport.open(self.dialect.authorize(call), tries.clock, self.dialect.backend) as reply:
                    if not reply.head.ok:
                        raise self.dialect.failure(reply.head, reply.explanation())
                    body = reply.read()
            except Llama4Error as error:
                wait = self._failed(tries, error)
            else:
                tries.answered()
                return reply.head, body
            self._transport.rest(wait)

    def close(self) -> None:
        """Close every connection; streams still open end with StreamClosedError."""
        self._closed.set()
        self._transport.close()
        for loop, home in list(self._loops.items()):
            with suppress(RuntimeError):  # it was closed, and its connections with it
                loop.call_soon_threadsafe(home.transport.close)

    async def aclose(self) -> None:
        """The same in an event loop: its own sockets are closed when this returns."""
        self.close()
        if (home := self._loops.get(asyncio.get_running_loop())) is not None:
            await home.keeper.aclose()
        for _ in range(2):  # the turns of the loop in which its transports let go of their sockets
            await asyncio.sleep(0)

    def _ensure_open(self) -> None:
        if self._closed.is_set():
            raise StreamClosedError(
                "The client was closed while it was answering.", hint="Keep it open until the answer ends."
            )

    def _tries(self) -> Tries:
        self._ensure_open()
        return Tries(self.dialect.backend, self.model, self.endpoint, self._health, self.dialect.secrets)

    def _failed(self, tries: Tries, error: Llama4Error) -> float:
        """Seconds until the next try; raises where there is none."""
        tries.conceal(error)
        self._ensure_open()
        return tries.failed(error, self.dialect.remedy(error))

    def _last(self, event: Event, tries: Tries) -> Event:
        if type(event) is Finish:
            return tries.finished(event, self._cost)
        tries.answered()
        return event

    async def _authorize(self, call: Call) -> Call:
        if self.dialect.waits:
            return await asyncio.to_thread(self.dialect.authorize, call)
        return self.dialect.authorize(call)

    async def _async_transport(self) -> AsyncTransport:
        loop = asyncio.get_running_loop()
        home = self._loops.get(loop)
        if home is None:
            for other in [other for other in self._loops if other.is_closed()]:
                self._loops.pop(other, None)
            home = self._loops[loop] = _Home(AsyncTransport(self._trust), self._keep(loop))
            await anext(home.keeper)
        return home.transport

    async def _keep(self, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None]:
        """Ends with its loop, which closes generators before itself; then the connections must be closed too."""
        try:
            yield
        finally:
            if (home := self._loops.pop(loop, None)) is not None:
                home.transport.close()


class _Home(NamedTuple):
    """What an engine has in one event loop."""

    transport: AsyncTransport
    keeper: AsyncGenerator[None]
