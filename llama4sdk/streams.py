"""Streams of events, as users read them.

A stream ends with ``Finish`` or with an error. What had arrived before an error is kept. Closing is idempotent.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self, cast

from typing_extensions import TypeVar

from llama4sdk.constraints import Constraint
from llama4sdk.errors import APIError, StreamClosedError, StreamInterruptedError
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.results import Completion, fold

__all__ = ["AsyncStream", "Origin", "Stream", "aclosing_events", "closing_events"]

Parsed = TypeVar("Parsed", covariant=True, default=object)


@dataclass(slots=True)
class Origin:
    """The source of an answer. It changes when a fallback takes over, which is possible until the first event."""

    model: str
    backend: str
    #: Reason for the model, where it was chosen for the request.
    route: str | None = None


@contextmanager
def closing_events(events: Iterator[Event]) -> Iterator[Iterator[Event]]:
    """Close events on leaving, where they can be closed: a generator, which frees what its request holds."""
    try:
        yield events
    finally:
        if (close := getattr(events, "close", None)) is not None:
            close()


@asynccontextmanager
async def aclosing_events(events: AsyncIterator[Event]) -> AsyncIterator[AsyncIterator[Event]]:
    """The same for asynchronous events."""
    try:
        yield events
    finally:
        if (aclose := getattr(events, "aclose", None)) is not None:
            await aclose()


class _EventLog(Generic[Parsed]):
    """The events of a stream so far, and its state: open, ended or closed. Base of both kinds of stream."""

    def __init__(self, origin: Origin, constraint: Constraint | None) -> None:
        self._origin = origin
        self._constraint = constraint
        self._events_read: list[Event] = []
        self._ended = False
        self._closed = False

    @property
    def model(self) -> str:
        """The name of the model that answers."""
        return self._origin.model

    @property
    def backend(self) -> str:
        """The name of the backend that answers; before the first event, of the one that is asked."""
        return self._origin.backend

    @property
    def partial(self) -> Completion[Parsed]:
        """The answer so far; its ``finish_reason`` is ``None`` until the stream has ended."""
        route, constraint = self._origin.route, self._constraint
        whole = fold(self._events_read, model=self.model, backend=self.backend, route=route, constraint=constraint)
        return cast("Completion[Parsed]", whole)

    def _may_continue(self) -> bool:
        """Return False once the stream has ended. Raises StreamClosedError when it was closed before that."""
        if self._ended:
            return False
        if self._closed:
            raise StreamClosedError(
                "This stream, or the client it belongs to, was closed before it ended.",
                hint="Read a stream to its end inside the client's with block; .partial has what had arrived.",
            )
        return True

    def _append(self, event: Event) -> Event:
        self._events_read.append(event)
        if type(event) is Finish:
            self._ended = True
        return event

    def _interruption(self) -> StreamInterruptedError:
        self._ended = True
        return StreamInterruptedError(
            f"The stream from '{self.backend}' ended without its finish marker.",
            partial=self.partial,
            hint="What had arrived is in the error's .partial.",
        )

    def _fail(self, error: Exception) -> None:
        """End with an error, which gets the answer so far where it has a place for it."""
        self._ended = True
        if isinstance(error, StreamInterruptedError | APIError) and error.partial is None:
            error.partial = self.partial


class Stream(_EventLog[Parsed], Iterator[Event]):
    """An answer while it is generated: iterate over its events, or over ``text_deltas()``.

    ``close()``, or leaving a ``with`` block, stops the work. After an error, the answer so far is in ``partial``.
    """

    def __init__(self, events: Iterator[Event], *, origin: Origin, constraint: Constraint | None = None) -> None:
        super().__init__(origin, constraint)
        self._events = events

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if not self._may_continue():
            raise StopIteration
        try:
            event = next(self._events)
        except StopIteration:
            raise self._interruption() from None
        except Exception as error:
            self._fail(error)
            raise
        if self._closed:  # closed from another thread while the engine worked
            self._stop()
            self._may_continue()
        self._append(event)
        if self._ended:
            self._stop()
        return event

    def text_deltas(self) -> Iterator[str]:
        """The answer's text, piece by piece."""
        for event in self:
            if isinstance(event, TextDelta) and event.text:
                yield event.text

    def completion(self) -> Completion[Parsed]:
        """Read to the end and return the whole answer, including the events read before."""
        for _ in self:
            pass
        return self.partial

    def close(self) -> None:
        """Stop the work and free its memory. Reading on raises StreamClosedError, unless the stream had ended."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        close = getattr(self._events, "close", None)
        if close is None:
            return
        try:
            close()
        except ValueError:
            # "generator already executing": the thread that runs it checks _closed after the current event.
            if not self._closed:
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


class AsyncStream(_EventLog[Parsed], AsyncIterator[Event]):
    """An answer while it is generated, for asyncio: ``async for``, ``async with``, ``await stream.completion()``."""

    def __init__(self, events: AsyncIterator[Event], *, origin: Origin, constraint: Constraint | None = None) -> None:
        super().__init__(origin, constraint)
        self._events = events

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._may_continue():
            raise StopAsyncIteration
        try:
            event = await anext(self._events)
        except StopAsyncIteration:
            raise self._interruption() from None
        except Exception as error:
            self._fail(error)
            raise
        if self._closed:  # closed by another task while this one waited
            await self._stop()
            self._may_continue()
        self._append(event)
        if self._ended:
            await self._stop()
        return event

    async def text_deltas(self) -> AsyncIterator[str]:
        """The answer's text, piece by piece."""
        async for event in self:
            if isinstance(event, TextDelta) and event.text:
                yield event.text

    async def completion(self) -> Completion[Parsed]:
        """Read to the end and return the whole answer, including the events read before."""
        async for _ in self:
            pass
        return self.partial

    async def aclose(self) -> None:
        """Stop the work and free its memory. Reading on raises StreamClosedError, unless the stream had ended."""
        self._closed = True
        await self._stop()

    async def _stop(self) -> None:
        if not isinstance(self._events, AsyncGenerator):
            return
        try:
            await self._events.aclose()
        except RuntimeError:
            # "already running": the task that runs it checks _closed after the current event.
            if not self._closed:
                raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()
