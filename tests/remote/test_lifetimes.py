"""Streams that are closed, cancelled or forgotten at any point: whoever waits wakes, and nothing stays open."""

from __future__ import annotations

import asyncio
import gc
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import cast

import pytest
import trustme

from llama4sdk.errors import Llama4Error, StreamClosedError
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.remote.transport import Transport
from llama4sdk.requests import EmbedRequest, Request
from tests.remote.conftest import sockets
from tests.remote.server import Hold, Pause, Read, Script, Server, Step, answer, chunked
from tests.remote.small import engine, hello, text

REQUEST = Request(prompt="Hi")
GOOD: Script = [Read(), answer(hello())]
OPEN = chunked(text("Hello"), end=False)

BLOCKED: dict[str, Script] = {
    "in a TLS handshake": [Hold()],
    "for the answer's head": [Read(), Hold()],
    "for its first token": [Read(), chunked(end=False), Hold()],
    "for its next token": [Read(), OPEN, Hold()],
    "for the next try": [Read(), answer(b"", "429 Busy", retry_after="50"), Hold()],
}


def blocked(name: str, server: Server) -> RemoteEngine:
    """An engine that will wait for ever there."""
    if "TLS" in name:
        return engine(server.url.replace("http", "https"))
    return engine(server.url, retries=3)


@pytest.mark.parametrize("name", BLOCKED)
def test_closing_wakes_a_thread(name: str) -> None:
    """A thread that waits anywhere in a request gets StreamClosedError when another closes the engine."""
    caught: list[Exception] = []
    waiting = threading.Event()
    with Server(BLOCKED[name]) as server:
        remote = blocked(name, server)
        object.__setattr__(remote.endpoint, "on_attempt", lambda attempt: waiting.set())

        def read() -> None:
            try:
                for _ in remote.stream(REQUEST):
                    pass
            except Exception as error:  # noqa: BLE001 - judged below
                caught.append(error)

        reader = threading.Thread(target=read)
        reader.start()
        (waiting if "try" in name else server.reached).wait(10)
        remote.close()
        reader.join(10)
        assert not reader.is_alive()
    assert [type(error) for error in caught] == [StreamClosedError]


def test_the_engines_thread_closes_its_connections_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task of its loop would be cancelled at the thread's end, maybe after the first of several connections."""
    tasks: list[Transport] = []
    monkeypatch.setattr(Transport, "close_soon", lambda transport: tasks.append(transport))
    before = sockets()
    with Server(GOOD) as server:
        remote = engine(server.url)
        list(remote.stream(REQUEST))
        remote.close()
    assert tasks == []
    assert sockets() <= before


@pytest.mark.parametrize("name", BLOCKED)
@pytest.mark.parametrize("where", ["in the loop", "from a thread"])
def test_closing_wakes_a_task(name: str, where: str) -> None:
    """The same for a task of an event loop."""

    async def main(server: Server) -> None:
        remote = blocked(name, server)
        waiting = asyncio.Event()
        object.__setattr__(remote.endpoint, "on_attempt", lambda attempt: waiting.set())

        async def read() -> None:
            async for _ in remote.astream(REQUEST):
                pass

        task = asyncio.create_task(read())
        if "try" in name:
            await waiting.wait()
        else:
            await asyncio.to_thread(server.reached.wait, 10)
        if where == "in the loop":
            await remote.aclose()
        else:
            await asyncio.to_thread(remote.close)
        with pytest.raises(StreamClosedError):
            await asyncio.wait_for(task, 10)

    with Server(BLOCKED[name]) as server:
        asyncio.run(main(server))


def test_a_closed_engine_answers_nothing() -> None:
    """Neither way of asking opens a connection then; closing again does nothing."""
    with Server(GOOD) as server:
        remote = engine(server.url)
        remote.close()
        remote.close()
        with pytest.raises(StreamClosedError):
            next(iter(remote.stream(REQUEST)))

        async def ask() -> None:
            await remote.aclose()
            async for _ in remote.astream(REQUEST):
                pass

        with pytest.raises(StreamClosedError):
            asyncio.run(ask())
    assert server.connections == 0


def test_a_closed_engine_hands_out_nothing_that_had_arrived() -> None:
    """The rest of an answer that came in one piece ends with StreamClosedError too."""
    with Server(GOOD) as server:
        remote = engine(server.url)
        stream = remote.stream(REQUEST)
        next(stream)
        remote.close()
        with pytest.raises(StreamClosedError):
            next(stream)

        async def ask() -> None:
            remote = engine(server.url)
            stream = remote.astream(REQUEST)
            await anext(stream)
            await remote.aclose()
            with pytest.raises(StreamClosedError):
                await anext(stream)

        asyncio.run(ask())


def first(stream: object) -> Event:
    """The first event of a stream that is left open."""
    return next(cast("Generator[Event]", stream))


@pytest.mark.parametrize("end", ["closed", "forgotten", "forgotten in a circle"])
def test_a_stream_that_is_not_read_to_its_end(end: str) -> None:
    """Its socket is closed at once, and the engine goes on."""
    before = sockets()
    with Server([Read(), OPEN, Hold()], GOOD) as server:
        remote = engine(server.url)
        stream = remote.stream(REQUEST)
        assert first(stream) == TextDelta(text="Hello")
        if end == "closed":
            cast("Generator[Event]", stream).close()
        elif end == "forgotten in a circle":
            circle: list[object] = [stream]
            circle.append(circle)
            del circle
        del stream
        gc.collect()
        assert first(remote.stream(REQUEST)) == TextDelta(text="Hello")
        remote.close()
    gc.collect()
    assert sockets() <= before


@pytest.mark.parametrize("end", ["closed", "forgotten"])
def test_an_asynchronous_stream_that_is_not_read_to_its_end(end: str) -> None:
    """The same; no task is left behind.

    Not at once, though: httpx leaves the generators of a body that is not read to its end to the loop, which closes
    each in a turn of its own.
    """

    async def main(server: Server) -> None:
        remote = engine(server.url)
        stream = cast("AsyncGenerator[Event]", remote.astream(REQUEST))
        assert await anext(stream) == TextDelta(text="Hello")
        if end == "closed":
            await stream.aclose()
        del stream
        gc.collect()
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 1
        assert [event async for event in remote.astream(REQUEST)][:1] == [TextDelta(text="Hello")]
        await remote.aclose()

    with Server([Read(), OPEN, Hold()], GOOD) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_task_may_be_cancelled_anywhere(
    encrypted: bool, authority: tuple[trustme.CA, str], secured: Callable[[str], ssl.SSLContext]
) -> None:
    """At any turn of the loop that an answer takes: nothing stays open, and the engine goes on answering."""
    body = chunked(*(hello()[start : start + 16] for start in range(0, len(hello()), 16)))
    slowly: list[Step] = [Read()]
    for start in range(0, len(body), 24):
        slowly += [body[start : start + 24], Pause(0.0005)]

    async def main(server: Server) -> int:
        remote = engine(server.url, certificates=authority[1] if encrypted else None)

        async def read() -> list[Event]:
            return [event async for event in remote.astream(REQUEST)]

        cancelled = 0
        for turns in range(0, 600, 6 if encrypted else 4):
            task = asyncio.create_task(read())
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled += task.cancel()
            with suppress(asyncio.CancelledError):
                assert len(await task) == 4
        assert len(await read()) == 4
        await remote.aclose()
        assert len(asyncio.all_tasks()) == 1
        return cancelled

    with Server(slowly * 100, tls=secured("127.0.0.1") if encrypted else None) as server:
        assert asyncio.run(main(server)) > 5


@pytest.mark.parametrize("closing", ["closed", "left to the loop"])
def test_one_event_loop_after_another(closing: str) -> None:
    """Idle connections end with their loop, even if nobody closes the engine; the next loop makes its own."""

    async def read(remote: RemoteEngine) -> list[Event]:
        return [event async for event in remote.astream(REQUEST)]

    before = sockets()
    with Server([*GOOD, Hold()]) as server:
        remote = engine(server.url)
        for number in range(3):
            assert type(asyncio.run(read(remote))[-1]) is Finish
            assert server.connections == number + 1
            assert remote._transports == {}
        if closing == "closed":
            remote.close()
    del remote
    gc.collect()
    assert sockets() <= before


def test_an_engine_that_nobody_closes() -> None:
    """Its thread and its sockets end with it."""
    before = sockets()
    with Server([*GOOD, Hold()]) as server:
        remote = engine(server.url)
        assert len(list(remote.stream(REQUEST))) == 4
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "llama4sdk-loop")
        del remote
        gc.collect()
        thread.join(10)
        assert not thread.is_alive()
    gc.collect()
    assert sockets() <= before


def test_a_program_that_closes_nothing_ends() -> None:
    """At once, without a warning, in the middle of a stream."""
    with Server([Read(), OPEN, Hold()]) as server:
        program = f"""
from llama4sdk.requests import Request
from tests.remote.small import engine
stream = engine({server.url!r}).stream(Request(prompt="Hi"))
print(next(stream).text)
"""
        command = [sys.executable, "-W", "error", "-c", program]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.stdout, run.stderr, run.returncode) == ("Hello\n", "", 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_process_starts_a_thread_of_its_own() -> None:
    """The parent's is not in it."""
    with Server([*GOOD] * 2) as server:
        remote = engine(server.url)
        assert len(list(remote.stream(REQUEST))) == 4
        child = os.fork()
        if child == 0:
            os._exit(len(list(remote.stream(REQUEST))))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
        assert len(list(remote.stream(REQUEST))) == 4
        remote.close()


def test_threads_and_loops_at_the_same_time() -> None:
    """Eight threads, half of them with loops of their own, get every answer whole."""
    answers: list[str] = []

    def whole(events: list[Event]) -> None:
        answers.append("".join(event.text for event in events if isinstance(event, TextDelta)))

    with Server([*GOOD] * 80) as server:
        remote = engine(server.url)

        async def loop() -> None:
            for _ in range(10):
                whole([event async for event in remote.astream(REQUEST)])

        def plain() -> None:
            for _ in range(10):
                whole(list(remote.stream(REQUEST)))

        works: list[Callable[[], None]] = [plain, lambda: asyncio.run(loop())] * 4
        threads = [threading.Thread(target=work) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        remote.close()
    assert answers == ["Hello, llama"] * 80
    assert server.connections <= 8


def test_embeddings_side_by_side() -> None:
    """Several calls run at once and come back in order; one that fails fails all."""
    vectors: Script = [Read(), answer(b"[1, 2]")] * 6
    with Server(vectors) as server:
        remote = engine(server.url)
        embeddings = remote.embed(EmbedRequest(inputs=("a", "b", "c")))
        assert embeddings.vectors == ((1.0, 2.0),) * 3
        assert remote.embed(EmbedRequest(inputs=("a",))).vectors == ((1.0, 2.0),)
        remote.close()
    with Server([Read(), answer(b"[1]")], [Read(), answer(b"", "400 No")], [Read(), answer(b"[1]")]) as server:
        remote = engine(server.url)
        with pytest.raises(Llama4Error, match="400"):
            remote.embed(EmbedRequest(inputs=("a", "b", "c")))
        remote.close()
