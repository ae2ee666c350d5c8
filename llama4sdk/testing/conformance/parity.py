"""The same answers, whichever way they are asked for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Final, cast

from llama4sdk.aclient import AsyncClient
from llama4sdk.backend import BackendInfo, Capabilities, Engine
from llama4sdk.client import Client
from llama4sdk.events import Event
from llama4sdk.requests import Request, SamplingOptions
from llama4sdk.session.async_bridge import bridge
from llama4sdk.streams import AsyncStream, Stream
from llama4sdk.testing.conformance.ground import Ground, assert_that
from llama4sdk.testing.conformance.outcome import Outcome, answer, attempt, attempt_async

PATIENCE_SECONDS: Final = 60.0


class Parity(Ground):
    """``Client``, ``AsyncClient`` and the engine itself agree."""

    def test_the_client_streams_what_the_engine_says(
        self, engine: Engine, info: BackendInfo, can: Capabilities
    ) -> None:
        """The deltas a client streams, joined, are the text of the engine's answer."""
        request = self.steady(can)
        direct = attempt(lambda: engine.stream(request)).text
        with self.client(Client, info) as client:
            streamed = attempt(lambda: ask(client, request)).text
        assert_that(
            streamed == direct,
            f"The engine answers {direct!r}, the client {streamed!r}.",
            fix="let an engine's answer depend on the request alone.",
        )

    def test_both_clients_answer_alike(self, info: BackendInfo, can: Capabilities) -> None:
        """``AsyncClient`` gives the text, finish reason, usage and error that ``Client`` gives."""
        request = self.steady(can)
        with self.client(Client, info) as client:
            expected = attempt(lambda: ask(client, request))
        actual = asyncio.run(self._ask_async(info, request))
        one, other = (outcome.completion.model_copy(update={"attempts": ()}) for outcome in (actual, expected))
        assert_that(
            one == other and type(actual.error) is type(expected.error),
            f"Client gave {expected}, AsyncClient {actual}.",
            fix="let astream() and stream() share what makes their events.",
        )

    def test_a_cancelled_task_frees_its_request(self, engine: Engine, can: Capabilities) -> None:
        """Cancelling the task that reads a stream closes the engine's generator, and the engine goes on."""
        request, closed = self.request(can), threading.Event()
        if "astream" in can.features:
            asyncio.run(cancel_after_first(spy_async(engine.astream(request), closed)))
        else:
            asyncio.run(cancel_after_first(bridge(lambda: spy(engine.stream(request), closed))))
        assert_that(
            closed.wait(PATIENCE_SECONDS),
            f"The stream of a cancelled task was not closed within {PATIENCE_SECONDS:g} s.",
            fix="let GeneratorExit (in astream(): CancelledError) through, and wait with timeouts only.",
        )
        text = answer(engine, request).text
        assert_that(
            bool(text), "After a cancelled stream the engine answers nothing.", fix="free it in a finally block."
        )

    async def _ask_async(self, info: BackendInfo, request: Request) -> Outcome:
        async with self.client(AsyncClient, info) as client:
            return await attempt_async(await ask_async(client, request))


def ask(client: Client, request: Request) -> Stream:
    """The request through a client, streamed."""
    options = cast("SamplingOptions", request.sampling.model_dump(exclude_unset=True))
    if request.prompt is not None:
        return client.generate(request.prompt, stream=True, **options)
    return client.chat(request.messages, stream=True, **options)


async def ask_async(client: AsyncClient, request: Request) -> AsyncStream:
    """The same through an asynchronous client."""
    options = cast("SamplingOptions", request.sampling.model_dump(exclude_unset=True))
    if request.prompt is not None:
        return await client.generate(request.prompt, stream=True, **options)
    return await client.chat(request.messages, stream=True, **options)


def spy(events: Iterator[Event], closed: threading.Event) -> Iterator[Event]:
    """The same events; sets ``closed`` when nothing more will be asked of them."""
    try:
        yield from events
    finally:
        closed.set()


async def spy_async(events: AsyncIterator[Event], closed: threading.Event) -> AsyncIterator[Event]:
    """The same for an asynchronous stream."""
    try:
        async for event in events:
            yield event
    finally:
        closed.set()


async def cancel_after_first(events: AsyncIterator[Event]) -> None:
    """Read in a task, and cancel the task once the first event has come."""
    first = asyncio.Event()

    async def read() -> None:
        async for _ in events:
            first.set()
            await asyncio.sleep(0)

    task = asyncio.create_task(read())
    waiting = asyncio.create_task(first.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
