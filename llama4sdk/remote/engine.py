"""``RemoteEngine``: an ``Engine`` made of a dialect and a transport, for synchronous and asynchronous callers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Final

from llama4sdk.backend import Engine
from llama4sdk.endpoint import Endpoint, is_async_client
from llama4sdk.errors import APIError, ConfigurationError, Llama4Error
from llama4sdk.events import Attempt, Event, Finish, Usage
from llama4sdk.remote.attempts import AttemptLoop, EndpointHealth, Report
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.loop_thread import LoopThread, Mailbox, calling_loop, closed_error
from llama4sdk.remote.tls_and_proxy import TrustStore
from llama4sdk.remote.transport import Reply, Transport
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings

logger = logging.getLogger("llama4sdk")

#: Calls that one ``embed`` has under way.
MAX_PARALLEL_CALLS: Final = 8


class RemoteEngine(Engine):
    """One model at one endpoint. Safe to use from several threads and event loops.

    Everything is asynchronous inside. Synchronous calls run in an event loop of the engine's own, in a background
    thread that the first of them starts and ``close`` ends.
    """

    def __init__(
        self,
        *,
        model: str,
        context_length: int,
        dialect: Dialect,
        endpoint: Endpoint,
        cost: Callable[[Usage], float | None] = lambda usage: None,
    ) -> None:
        """``cost`` gives the price of an answer with that usage in US dollars, as far as it is known."""
        self.model = model
        self.context_length = context_length
        self.dialect = dialect
        self.endpoint = endpoint
        self._cost = cost
        self._health = EndpointHealth()
        self._trust_store = TrustStore(endpoint.certificates)
        self._transports: dict[asyncio.AbstractEventLoop, Transport] = {}
        self._loop_thread = LoopThread(_users_loop if is_async_client(endpoint.http_client) else None)
        self._closed = threading.Event()

    def stream(self, request: Request) -> Iterator[Event]:
        """Answer a request; see ``Engine.stream``. A request that failed before its first event may be sent again."""
        self._ensure_open()
        for event in self._loop_thread.iterate(lambda mailbox: self._batches(request, mailbox)):
            yield event
            self._ensure_open()

    async def astream(self, request: Request) -> AsyncIterator[Event]:
        """The same for asyncio, without a thread."""
        async with aclosing(self._batches(request)) as batches:
            async for batch in batches:
                for event in batch:
                    yield event
                    self._ensure_open()

    async def _batches(
        self, request: Request, mailbox: Mailbox[Event] | None = None
    ) -> AsyncGenerator[Sequence[Event]]:
        """The events of an answer, those that arrived together in one batch."""
        attempts = self._attempt_loop(mailbox)
        transport = await self._transport()
        while True:
            call, reader = self.dialect.build_call(request, attempts.remedies)
            try:
                attempts.begin()
                call = await self._authorize(call)
                async with transport.open(call, attempts.deadlines, self.dialect.backend) as reply:
                    await self._raise_for_status(reply)
                    async with aclosing(_read(reply, reader, attempts)) as batches:
                        async for batch in batches:
                            yield batch
                batch, error = _collect(self._complete(event, attempts) for event in reader.end())
                yield batch
                if error is not None:
                    raise error
            except Llama4Error as error:
                wait = self._wait_before_retry(attempts, error)
            else:
                return
            await transport.waits.sleep(wait)

    def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector per input; several calls run side by side where the endpoint takes few inputs at once."""
        calls = self.dialect.build_embed_calls(request)
        self._ensure_open()
        replies = self._loop_thread.run(lambda mailbox: self._fetch_all(calls, mailbox))
        return self.dialect.read_embeddings(request, replies)

    def count_tokens(self, request: Request) -> int:
        """Tokens of a request, as the endpoint counts them."""
        return self.dialect.read_count(*self.fetch(self.dialect.build_count_call(request)))

    def fetch(self, call: Call) -> tuple[Head, bytes]:
        """A whole answer, sent again where it fails as ``stream`` is. Raises for any status but 2xx."""
        self._ensure_open()
        return self._loop_thread.run(lambda mailbox: self._fetch(call, mailbox))

    async def _fetch_all(self, calls: Sequence[Call], mailbox: Mailbox[Any]) -> list[tuple[Head, bytes]]:
        """The answers in the order of their calls; the first that fails cancels the others."""
        slots = asyncio.Semaphore(MAX_PARALLEL_CALLS)

        async def fetch(call: Call) -> tuple[Head, bytes]:
            async with slots:
                return await self._fetch(call, mailbox)

        tasks = [asyncio.create_task(fetch(call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _fetch(self, call: Call, mailbox: Mailbox[Any]) -> tuple[Head, bytes]:
        attempts = self._attempt_loop(mailbox)
        transport = await self._transport()
        while True:
            try:
                attempts.begin()
                authorized = await self._authorize(call)
                async with transport.open(authorized, attempts.deadlines, self.dialect.backend) as reply:
                    await self._raise_for_status(reply)
                    body = await reply.read()
            except Llama4Error as error:
                wait = self._wait_before_retry(attempts, error)
            else:
                attempts.record_answer()
                return reply.head, body
            await transport.waits.sleep(wait)

    def close(self) -> None:
        """Close every connection; streams still open end with StreamClosedError."""
        self._closed.set()
        for loop, transport in list(self._transports.items()):
            if self._loop_thread.owns(loop):
                continue  # it closes its connections at its end; a task that did would be cancelled there
            with suppress(RuntimeError):  # the loop is closed, and its connections with it
                loop.call_soon_threadsafe(transport.close_soon)
        self._loop_thread.close()

    async def aclose(self) -> None:
        """The same in an event loop: its own sockets are closed when this returns."""
        self._closed.set()
        if (transport := self._transports.get(asyncio.get_running_loop())) is not None:
            await transport.close()
        await asyncio.to_thread(self.close)

    def _ensure_open(self) -> None:
        if self._closed.is_set():
            raise closed_error()

    def _attempt_loop(self, mailbox: Mailbox[Any] | None) -> AttemptLoop:
        self._ensure_open()
        hook = self.endpoint.on_attempt
        report = None if hook is None else _reporter(hook, mailbox)
        return AttemptLoop(self.dialect, self.model, self.endpoint, self._health, report)

    def _wait_before_retry(self, attempts: AttemptLoop, error: Llama4Error) -> float:
        """Seconds until the next attempt; raises the error where there is none."""
        attempts.conceal(error)
        self._ensure_open()
        return attempts.record_failure(error)

    def _complete(self, event: Event, attempts: AttemptLoop) -> Event:
        if type(event) is Finish:
            return attempts.complete(event, self._cost)
        attempts.record_answer()
        return event

    async def _authorize(self, call: Call) -> Call:
        if self.dialect.authorize_blocks:
            return await asyncio.to_thread(self.dialect.authorize, call)
        return self.dialect.authorize(call)

    async def _raise_for_status(self, reply: Reply) -> None:
        if not reply.head.ok:
            raise self.dialect.parse_error(reply.head, await reply.read_error())

    async def _transport(self) -> Transport:
        """The connections in this event loop."""
        loop = asyncio.get_running_loop()
        transport = self._transports.get(loop)
        if transport is None:
            for ended in [other for other in self._transports if other.is_closed()]:
                self._transports.pop(ended, None)
            transport = self._transports[loop] = Transport(self._trust_store, self.endpoint)
            if not self._loop_thread.add_closer(loop, transport.close):
                await transport.close_with_loop(partial(self._transports.pop, loop, None))
        return transport


async def _read(reply: Reply, reader: Reader, attempts: AttemptLoop) -> AsyncGenerator[Sequence[Event]]:
    """The events of the body, but for those that only its end brings. A complete answer may break off after that."""
    reader.begin(reply.head)
    try:
        async for data in reply:
            batch, error = _collect(reader.feed(data))
            if batch:
                attempts.record_answer()
                yield batch
            if error is not None:
                raise error
            if reader.done and not attempts.deadlines.begin_linger():
                break
    except APIError:
        if not reader.done:
            raise


def _users_loop() -> asyncio.AbstractEventLoop:
    """The event loop for synchronous calls with the user's ``httpx.AsyncClient``, which no other loop may use."""
    loop = calling_loop()
    if loop is None:
        raise ConfigurationError(
            "The http_client is asynchronous, and this call is not: an httpx.AsyncClient belongs to one event loop.",
            hint="Pass an httpx.Client, or use llama4sdk.AsyncClient.",
        )
    return loop


def _collect(events: Iterable[Event]) -> tuple[list[Event], Exception | None]:
    """All events, and the error that ended them: what comes before an error is handed out, too."""
    batch: list[Event] = []
    try:
        batch.extend(events)
    except Exception as error:  # noqa: BLE001 - raised again where the batch was handed out
        return batch, error
    return batch, None


def _reporter(hook: Report, mailbox: Mailbox[Any] | None) -> Report:
    """Call the user's hook in the thread that made the request. What it raises is logged, no more."""

    def report(attempt: Attempt) -> None:
        try:
            hook(attempt)
        except Exception:
            logger.exception("The endpoint's on_attempt failed.")

    return report if mailbox is None else lambda attempt: mailbox.call(partial(report, attempt))
