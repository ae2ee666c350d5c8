"""Reading a synchronous iterator asynchronously, through a thread and a bounded queue.

Items keep their order, a slow reader blocks the producer, an exception is raised after the items before it, and closing
or cancelling the reader closes the iterator in the producer's thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final, Generic, NamedTuple, TypeVar

T = TypeVar("T")

#: Items that may wait for the reader.
QUEUE_CAPACITY: Final = 32


async def bridge(source: Callable[[], Iterator[T]], *, capacity: int = QUEUE_CAPACITY) -> AsyncGenerator[T]:
    """Iterate over ``source()`` in its own thread. At most ``capacity`` items wait for the reader."""
    pump = _Pump(source, asyncio.get_running_loop(), capacity)
    thread = threading.Thread(target=pump.run, name="llama4sdk-stream", daemon=True)
    thread.start()
    try:
        while True:
            batch = await pump.receive()
            for item in batch.items:
                pump.slots.release()
                yield item
            if batch.end:
                break
        if batch.error is not None:
            raise batch.error
    except GeneratorExit:  # closed early: wait for the producer, which a cancelled task must not
        pump.stop()
        await pump.wait_finished()
        raise
    finally:
        pump.stop()


class _Batch(NamedTuple, Generic[T]):
    items: list[T]
    end: bool
    error: BaseException | None


class _Pump(Generic[T]):
    """The queue between the producer's thread and the reader's event loop."""

    def __init__(self, source: Callable[[], Iterator[T]], loop: asyncio.AbstractEventLoop, capacity: int) -> None:
        self.slots = threading.Semaphore(capacity)
        self._source = source
        self._loop = loop
        self._lock = threading.Lock()
        self._items: deque[T] = deque()
        self._ready = asyncio.Event()
        self._done = asyncio.Event()
        self._signalled = False
        self._stopped = False
        self._end = False
        self._error: BaseException | None = None

    def run(self) -> None:
        """In the thread: read the source to its end, or until the reader stops."""
        error: BaseException | None = None
        try:
            self._forward(self._source())
        except BaseException as raised:  # noqa: BLE001 - re-raised where the reader waits
            error = raised
        with self._lock:
            self._end, self._error = True, error
        self._notify(self._finish)

    def _forward(self, items: Iterator[T]) -> None:
        try:
            for item in items:
                self.slots.acquire()
                if self._stopped:
                    return
                with self._lock:
                    self._items.append(item)
                    wake, self._signalled = not self._signalled, True
                if wake:
                    self._notify(self._ready.set)
        finally:
            if (close := getattr(items, "close", None)) is not None:
                close()

    def _notify(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self._stopped = True  # the loop was closed

    def _finish(self) -> None:
        self._ready.set()
        self._done.set()

    async def receive(self) -> _Batch[T]:
        """Wait for items or the end, and take all items in the queue."""
        await self._ready.wait()
        with self._lock:
            items = list(self._items)
            self._items.clear()
            end, error = self._end, self._error
            if not end:
                self._ready.clear()
                self._signalled = False
        return _Batch(items, end, error)

    def stop(self) -> None:
        """Let the thread end at its current item."""
        self._stopped = True
        self.slots.release()

    async def wait_finished(self) -> None:
        """Wait until the source is closed."""
        await self._done.wait()
