"""The bridge from synchronous to asynchronous: order, back-pressure, cancellation, errors."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from llama4sdk.session.async_bridge import bridge


class Numbers:
    """Counts up from 0, remembering how far it came and whether it was closed."""

    def __init__(self, stop: int, error: BaseException | None = None) -> None:
        self.produced = 0
        self.closed = threading.Event()
        self.threads: set[str] = set()
        self._stop, self._error = stop, error

    def __iter__(self) -> Iterator[int]:
        try:
            while self.produced < self._stop:
                self.threads.add(threading.current_thread().name)
                self.produced += 1
                yield self.produced - 1
            if self._error is not None:
                raise self._error
        finally:
            self.closed.set()


def test_order_is_kept_over_many_items() -> None:
    """Ten thousand items arrive as they were made, from one thread that is not the loop's."""
    numbers = Numbers(10_000)

    async def main() -> list[int]:
        return [n async for n in bridge(lambda: iter(numbers))]

    assert asyncio.run(main()) == list(range(10_000))
    assert numbers.threads == {"llama4sdk-stream"}
    assert numbers.closed.is_set()


def test_a_slow_reader_holds_the_producer_back() -> None:
    """The producer is never more than the queue's capacity ahead of what was read."""
    numbers = Numbers(1_000)

    async def main() -> int:
        ahead = 0
        read = 0
        async for _ in bridge(lambda: iter(numbers), capacity=4):
            read += 1
            if read % 50 == 0:
                await asyncio.sleep(0.002)
            ahead = max(ahead, numbers.produced - read)
        return ahead

    assert asyncio.run(main()) <= 4 + 1  # the queue, and the item in the producer's hand


def test_an_error_arrives_after_the_items_before_it() -> None:
    """Nothing that was produced before the error is lost, and the error is the producer's own."""
    error = ValueError("broken")
    numbers = Numbers(3, error)

    async def main() -> list[int]:
        received: list[int] = []
        with pytest.raises(ValueError, match="broken") as caught:
            async for number in bridge(lambda: iter(numbers)):
                received.append(number)
        assert caught.value is error
        return received

    assert asyncio.run(main()) == [0, 1, 2]


def test_an_error_while_opening_arrives_too() -> None:
    """A source that cannot even be made raises where the reader waits."""

    def broken() -> Iterator[int]:
        raise KeyError("no source")

    async def main() -> None:
        with pytest.raises(KeyError, match="no source"):
            await anext(bridge(broken))

    asyncio.run(main())


def test_closing_early_closes_the_source_before_it_returns() -> None:
    """After ``aclose`` the producer's generator is closed and its thread has nothing left to do."""
    numbers = Numbers(10_000)

    async def main() -> None:
        items = bridge(lambda: iter(numbers), capacity=2)
        assert await anext(items) == 0
        await items.aclose()
        assert numbers.closed.is_set()

    asyncio.run(main())
    assert numbers.produced < 10


def test_cancelling_does_not_wait_for_a_producer_that_is_stuck() -> None:
    """A cancelled reader returns at once; the source closes when its current step is over."""
    gate, closed = threading.Event(), threading.Event()

    def stuck() -> Iterator[int]:
        try:
            yield 0
            gate.wait()
            yield 1
        finally:
            closed.set()

    async def read() -> None:
        async for _ in bridge(stuck):
            pass

    async def main() -> None:
        task = asyncio.create_task(read())
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 5)
        assert not closed.is_set()

    asyncio.run(main())
    gate.set()
    assert closed.wait(5)


def test_many_streams_run_at_once() -> None:
    """Streams do not mix."""

    async def one(count: int) -> list[int]:
        return [n async for n in bridge(lambda: iter(Numbers(count)))]

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(one(count) for count in range(50, 80)))

    assert asyncio.run(main()) == [list(range(count)) for count in range(50, 80)]
