"""The asynchronous client does what the synchronous one does."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
import weakref

import pytest

from llama4sdk.aclient import AsyncClient
from llama4sdk.client import Client
from llama4sdk.errors import (
    BackendError,
    ClientClosedError,
    InvalidRequestError,
    StreamClosedError,
    StreamInterruptedError,
    UnsupportedFeatureError,
)
from llama4sdk.events import Finish, TextDelta
from llama4sdk.registry import Registry
from llama4sdk.streams import AsyncStream
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.testing.registry import scripted_registry
from llama4sdk.testing.scripted import ANSWER


def make(registry: Registry) -> AsyncClient:
    """A client on the scripted backend."""
    return AsyncClient("scripted", registry=registry, hardware=LAPTOP)


def test_the_verbs_have_the_same_arguments() -> None:
    """Both clients have the same methods and arguments."""
    names = [name for name, _ in inspect.getmembers(Client, inspect.isfunction) if not name.startswith("_")]
    assert {
        "batch",
        "chat",
        "generate",
        "embed",
        "score",
        "count_tokens",
        "plan",
        "memory",
        "load",
        "close",
        "run_tools",
    } == set(names)
    for name in names:
        ours, theirs = inspect.signature(getattr(Client, name)), inspect.signature(getattr(AsyncClient, name))
        assert ours.parameters == theirs.parameters


def test_loading_says_how_far_it_is() -> None:
    """The backend's progress reaches the caller."""
    registry, backend = scripted_registry()
    backend.loading = [(2, 4), (4, 4)]
    reports: list[tuple[int, int | None]] = []

    async def main() -> None:
        async with make(registry) as client:
            await client.load(progress=lambda done, total: reports.append((done, total)))

    asyncio.run(main())
    assert reports == backend.loading


@pytest.mark.parametrize("native", [False, True])
def test_answers_equal_the_synchronous_ones(native: bool) -> None:
    """Events, text and counts agree, through the bridge and through a native stream."""
    model = "echo" if native else "scripted"
    registry = Registry.discover() if native else scripted_registry()[0]

    async def main() -> tuple[object, list[object], object]:
        async with AsyncClient(model, registry=registry, hardware=LAPTOP) as client:
            stream = await client.chat("one two three", stream=True)
            events: list[object] = [event async for event in stream]
            return await client.chat("one two three"), events, await client.generate("one two")

    whole, events, generated = asyncio.run(main())
    with Client(model, registry=registry, hardware=LAPTOP) as client:
        assert client.chat("one two three") == whole
        assert list(client.chat("one two three", stream=True)) == events
        assert client.generate("one two") == generated


def test_errors_come_through_the_bridge() -> None:
    """Foreign exceptions, a missing finish marker, bad input and undeclared features: the same errors."""

    async def fails(*steps: object) -> None:
        async with make(scripted_registry(steps)[0]) as client:  # type: ignore[arg-type]
            await client.chat("x")

    async def main() -> None:
        with pytest.raises(BackendError, match="ZeroDivisionError"):
            await fails(TextDelta(text="a"), ZeroDivisionError("x"))
        with pytest.raises(StreamInterruptedError) as caught:
            await fails(TextDelta(text="a"))
        assert caught.value.partial is not None
        assert caught.value.partial.text == "a"
        async with make(scripted_registry()[0]) as client:
            with pytest.raises(InvalidRequestError):
                await client.chat([])
        async with AsyncClient("echo", hardware=LAPTOP) as echo:
            with pytest.raises(UnsupportedFeatureError, match="embeddings"):
                await echo.embed("x")
            assert await echo.count_tokens("a b c") == 3

    asyncio.run(main())


def test_leaving_a_stream_early_closes_the_engine_s_generator() -> None:
    """``async with`` frees what the request held before it returns."""
    registry, backend = scripted_registry([TextDelta(text="a")] * 100)

    async def main() -> None:
        async with make(registry) as client:
            async with await client.chat("x", stream=True) as stream:
                await anext(stream)
                assert backend.engines[0].open_streams == 1
            assert backend.engines[0].open_streams == 0
            with pytest.raises(StreamClosedError):
                await anext(stream)

    asyncio.run(main())


def test_cancelling_a_request_stops_the_work() -> None:
    """A cancelled task leaves no stream open in the engine."""
    gate = threading.Event()
    registry, backend = scripted_registry([TextDelta(text="a"), gate, *ANSWER])

    async def main() -> None:
        async with make(registry) as client:
            task = asyncio.create_task(client.chat("x"))
            while not (backend.engines and backend.engines[0].open_streams):
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
            while backend.engines[0].open_streams:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert backend.engines[0].open_streams == 0


def test_closing_the_client_ends_its_streams() -> None:
    """Reading on after ``close`` is a clear error, and so is asking again."""
    registry, backend = scripted_registry([TextDelta(text="a")] * 100)

    async def main() -> None:
        client = make(registry)
        stream = await client.chat("x", stream=True)
        await anext(stream)
        await client.close()
        await client.close()
        with pytest.raises(StreamClosedError):
            await anext(stream)
        with pytest.raises(ClientClosedError):
            await client.chat("x")

    asyncio.run(main())
    assert backend.engines[0].closed
    assert backend.engines[0].open_streams == 0


def test_hundreds_of_requests_at_once() -> None:
    """Each gets its own answer from the one engine."""
    registry, backend = scripted_registry([TextDelta(text="ok"), Finish(reason="stop")])

    async def main() -> list[str]:
        async with make(registry) as client:
            return [c.text for c in await asyncio.gather(*(client.chat(str(n)) for n in range(300)))]

    assert asyncio.run(main()) == ["ok"] * 300
    assert len(backend.engines) == 1


def test_five_hundred_streams_at_once_and_none_remembered() -> None:
    """Each has its own words in their order, and a client keeps nothing of what has ended."""
    references: list[weakref.ref[AsyncStream[object]]] = []

    async def read(client: AsyncClient, number: int) -> bool:
        words = " ".join(f"{number}-{index}" for index in range(200))
        stream = await client.chat(words, stream=True)
        references.append(weakref.ref(stream))
        return "".join([piece async for piece in stream.text_deltas()]) == words

    async def main() -> None:
        async with AsyncClient("echo", hardware=LAPTOP) as client:
            assert all(await asyncio.gather(*(read(client, number) for number in range(500))))
            gc.collect()
            assert not any(reference() for reference in references)

    asyncio.run(main())
