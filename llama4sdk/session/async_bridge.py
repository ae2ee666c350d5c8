"""Any synchronous stream as an asynchronous one: a thread and a bounded queue.

Order is kept, a slow reader holds the producer back, an error arrives where it happened, and closing or cancelling the
reader closes the producer's iterator in its own thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["bridge"]

T = TypeVar("T")

CAPACITY = 32


async def bridge(source: Callable[[], Iterator[T]], *, capacity: int = CAPACITY) -> AsyncGenerator[T]:
    """Iterate ``source()`` in a thread of its own. At most ``capacity`` items wait for the reader."""
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
    except GeneratorExit:  # closed early; a cancelled task, though, must not wait for the producer's current step
        pump.stop()
        await pump.finished()
        raise
    finally:
        pump.stop()


class _Batch(Generic[T]):
    __slots__ = ("end", "error", "items")

    def __init__(self, items: list[T], *, end: bool, error: BaseException | None) -> None:
        self.items = items
        self.end = end
        self.error = error


class _Pump(Generic[T]):
    """The thread's side and the loop's side, meeting at a lock."""

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
        """The thread: read the source to its end, or until the reader has gone."""
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
            close = getattr(items, "close", None)
            if close is not None:
                close()

    def _notify(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:
            self._stopped = True  # the loop was closed: nobody is left to read

    def _finish(self) -> None:
        self._ready.set()
        self._done.set()

    async def receive(self) -> _Batch[T]:
        """Wait for something, and take all there is."""
        await self._ready.wait()
        with self._lock:
            items = list(self._items)
            self._items.clear()
            end, error = self._end, self._error
            if not end:
                self._ready.clear()
                self._signalled = False
        return _Batch(items, end=end, error=error)

    def stop(self) -> None:
        """The reader has gone: let the thread run out."""
        self._stopped = True
        self.slots.release()

    async def finished(self) -> None:
        """Wait until the source is closed and the thread has nothing left to do."""
        await self._done.wait()
