"""``RemoteEngine``: an ``Engine`` made of a dialect and a transport, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from weakref import WeakKeyDictionary

from llama4sdk.backend import Engine
from llama4sdk.errors import APIError, Llama4Error, StreamClosedError
from llama4sdk.events import Event, Finish, Usage
from llama4sdk.remote.dialect import Call, Dialect, Head
from llama4sdk.remote.endpoint import Endpoint
from llama4sdk.remote.transport import AsyncTransport, Transport
from llama4sdk.remote.tries import Health, Tries
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings

__all__ = ["RemoteEngine"]

LARGEST_ERROR: Final = 2**20
"""Bytes of an error's body that are read."""

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
        self._transport = Transport(certificates=endpoint.certificates)
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncTransport] = WeakKeyDictionary()
        self._closed = threading.Event()

    def stream(self, request: Request) -> Iterator[Event]:
        """Answer a request; see ``Engine.stream``. What failed before its first event may be asked again."""
        tries = self._tries()
        while True:
            call, reader = self.dialect.ask(request, tries.remedies)
            try:
                tries.begin()
                call = self.dialect.authorize(call)
                with self._transport.open(call, tries.clock, self.dialect.backend) as reply:
                    if not reply.head.ok:
                        raise self.dialect.failure(reply.head, reply.read(LARGEST_ERROR))
                    reader.begin(reply.head)
                    try:
                        for data in reply.chunks():
                            for event in reader.feed(data):
                                tries.answered()
                                yield event
                                if self._closed.is_set():
                                    raise _closed()
                            if reader.done and not tries.clock.linger():
                                break
                    except APIError:
                        if not reader.done:
                            raise
                for event in reader.end():
                    yield tries.finished(event, self._cost) if type(event) is Finish else event
                return
            except Llama4Error as error:
                self._rest(self._failed(tries, error))
            except BaseException:
                tries.abandoned()
                raise

    async def astream(self, request: Request) -> AsyncIterator[Event]:
        """The same for asyncio, without a thread."""
        tries = self._tries()
        transport = self._async_transport()
        while True:
            call, reader = self.dialect.ask(request, tries.remedies)
            try:
                tries.begin()
                call = await self._authorize(call)
                async with transport.open(call, tries.clock, self.dialect.backend) as reply:
                    if not reply.head.ok:
                        raise self.dialect.failure(reply.head, await reply.read(LARGEST_ERROR))
                    reader.begin(reply.head)
                    try:
                        async for data in reply.chunks():
                            for event in reader.feed(data):
                                tries.answered()
                                yield event
                                if self._closed.is_set():
                                    raise _closed()
                            if reader.done and not tries.clock.linger():
                                break
                    except APIError:
                        if not reader.done:
                            raise
                for event in reader.end():
                    yield tries.finished(event, self._cost) if type(event) is Finish else event
                return
            except Llama4Error as error:
                await asyncio.sleep(self._failed(tries, error))
            except BaseException:
                tries.abandoned()
                raise

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
                        raise self.dialect.failure(reply.head, reply.read(LARGEST_ERROR))
                    body = reply.read()
                tries.answered()
                return reply.head, body
            except Llama4Error as error:
                self._rest(self._failed(tries, error))
            except BaseException:
                tries.abandoned()
                raise

    def close(self) -> None:
        """Close every connection; streams still open end with StreamClosedError."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._transport.close()
        for loop, transport in list(self._loops.items()):
            if loop.is_running():
                asyncio.run_coroutine_threadsafe(transport.close(), loop)

    async def aclose(self) -> None:
        """The same in an event loop, whose own connections are closed when this returns."""
        transport = self._loops.pop(asyncio.get_running_loop(), None)
        self.close()
        if transport is not None:
            await transport.close()
        await asyncio.sleep(0)  # the turn of the loop in which its sockets are let go

    def _tries(self) -> Tries:
        if self._closed.is_set():
            raise _closed()
        return Tries(self.dialect.backend, self.model, self.endpoint, self._health, self.dialect.secrets())

    def _failed(self, tries: Tries, error: Llama4Error) -> float:
        if self._closed.is_set():
            raise _closed() from error
        return tries.failed(error, self.dialect.remedy(error))

    def _rest(self, seconds: float) -> None:
        if seconds and self._closed.wait(seconds):
            raise _closed()

    async def _authorize(self, call: Call) -> Call:
        if self.dialect.waits:
            return await asyncio.to_thread(self.dialect.authorize, call)
        return self.dialect.authorize(call)

    def _async_transport(self) -> AsyncTransport:
        loop = asyncio.get_running_loop()
        if loop not in self._loops:
            self._loops[loop] = AsyncTransport(certificates=self.endpoint.certificates)
        return self._loops[loop]


def _closed() -> StreamClosedError:
    return StreamClosedError(
        "The client was closed while it was answering.", hint="Keep it open until the answer ends."
    )
