"""Event loops in which synchronous callers run asynchronous code: a thread's own, or the one that waits for them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing, suppress
from contextvars import ContextVar
from queue import SimpleQueue
from typing import Any, Final, Generic, ParamSpec, TypeAlias, TypeVar

from llama4sdk.errors import StreamClosedError

P = ParamSpec("P")
T = TypeVar("T")

Closer: TypeAlias = Callable[[], Coroutine[Any, Any, None]]

#: Batches that may wait for the reading thread before the sender is paused.
MAX_WAITING_BATCHES: Final = 16

#: Seconds that ``close`` waits for the thread's end.
MAX_CLOSE_SECONDS: Final = 5.0

_CALLING_LOOP: Final[ContextVar[asyncio.AbstractEventLoop | None]] = ContextVar("calling_loop", default=None)


def calling_loop() -> asyncio.AbstractEventLoop | None:
    """The running event loop that waits for this thread, by ``run_in_thread``; ``None`` where there is none."""
    return _CALLING_LOOP.get()


async def run_in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a thread, as ``asyncio.to_thread`` does; it can learn which event loop waits for it."""
    token = _CALLING_LOOP.set(asyncio.get_running_loop())
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    finally:
        _CALLING_LOOP.reset(token)


class Mailbox(Generic[T]):
    """Hands batches of items, and functions to call, from a coroutine to the thread that waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: SimpleQueue[Sequence[T] | Callable[[], None] | None] = SimpleQueue()
        self._room = asyncio.Event()
        self._paused = False

    def call(self, function: Callable[[], None]) -> None:
        """Have the waiting thread call this."""
        self._queue.put(function)

    async def put(self, batch: Sequence[T]) -> None:
        """Hand over a batch; waits while too many are unread."""
        self._queue.put(batch)
        if self._queue.qsize() >= MAX_WAITING_BATCHES:
            self._room.clear()
            self._paused = True
            if self._queue.qsize() >= MAX_WAITING_BATCHES:  # again: what was read before the line above paused nobody
                await self._room.wait()

    def end(self) -> None:
        """Let the waiting thread go once it has read everything."""
        self._queue.put(None)

    def read(self) -> Iterator[T]:
        """Yield the items, and make the calls, until the end; in the waiting thread."""
        while (entry := self._queue.get()) is not None:
            if self._paused:
                self._paused = False
                with suppress(RuntimeError):  # the loop is closed, and nobody waits in it
                    self._loop.call_soon_threadsafe(self._room.set)
            if callable(entry):
                entry()
            else:
                yield from entry


class LoopThread:
    """A thread with an event loop: started by the first call, ended by ``close`` or with its owner.

    Safe to use from several threads.
    """

    def __init__(self, borrow: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
        """``borrow`` gives a running loop of somebody else's to use instead; no thread is started then."""
        self._borrow = borrow
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closers: list[Closer] = []

    def add_closer(self, loop: asyncio.AbstractEventLoop, closer: Closer) -> bool:
        """Have the thread run this at its end; ``False`` where ``loop`` is not the thread's.

        The thread keeps a reference to it, so that connections are closed also where the owner was garbage-collected.
        """
        if not self.owns(loop):
            return False
        self._closers.append(closer)
        return True

    def owns(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether a loop runs in this thread."""
        return loop is self._loop

    def run(self, work: Callable[[Mailbox[Any]], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine there, and wait for its result."""
        mailbox, future = self._submit(work)
        try:
            for _ in mailbox.read():
                pass
            return _result(future)
        finally:
            future.cancel()

    def iterate(self, work: Callable[[Mailbox[T]], AsyncGenerator[Sequence[T]]]) -> Iterator[T]:
        """Run an asynchronous generator of batches there, and yield their items; closing this iterator closes it."""

        async def forward(mailbox: Mailbox[T]) -> None:
            async with aclosing(work(mailbox)) as batches:
                async for batch in batches:
                    await mailbox.put(batch)

        mailbox, future = self._submit(forward)
        try:
            yield from mailbox.read()
            _result(future)
        finally:
            future.cancel()  # and no waiting: this may be garbage collection, in any thread and under any lock

    def close(self) -> None:
        """Cancel whatever runs there, and end the thread."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
        if loop is None or thread is None or not thread.is_alive():
            return
        _stop(loop)
        if thread is not threading.current_thread():
            thread.join(MAX_CLOSE_SECONDS)

    def _submit(
        self, work: Callable[[Mailbox[Any]], Coroutine[Any, Any, T]]
    ) -> tuple[Mailbox[Any], concurrent.futures.Future[T]]:
        with self._lock:
            if self._closed:
                raise closed_error()
            loop = self._running_loop()
            mailbox: Mailbox[Any] = Mailbox(loop)
            future = asyncio.run_coroutine_threadsafe(work(mailbox), loop)
        future.add_done_callback(lambda _: mailbox.end())
        return mailbox, future

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """The loop; its thread is started where there is none, or where a fork has left it behind."""
        if self._borrow is not None:
            return self._borrow()
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            self._loop, self._closers = asyncio.new_event_loop(), []
            self._thread = threading.Thread(
                target=_run, args=(self._loop, self._closers), name="llama4sdk-loop", daemon=True
            )
            self._thread.start()
            weakref.finalize(self, _stop, self._loop)
        return self._loop


def _run(loop: asyncio.AbstractEventLoop, closers: Sequence[Closer]) -> None:
    """Run until the loop is stopped; then end its tasks and generators, and close what is open."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        for close in closers:
            loop.run_until_complete(close())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _stop(loop: asyncio.AbstractEventLoop) -> None:
    with suppress(RuntimeError):  # it is closed
        loop.call_soon_threadsafe(loop.stop)


def _result(future: concurrent.futures.Future[T]) -> T:
    try:
        return future.result()
    except concurrent.futures.CancelledError:
        raise closed_error() from None


def closed_error() -> StreamClosedError:
    """Return the error of a call whose client was closed."""
    return StreamClosedError(
        "The client was closed while it was answering.", hint="Keep it open until the answer ends."
    )
