"""Outcomes of requests: all events, and the error that ended them, if one did."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

import pytest

from llama4sdk.backend import Engine
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.requests import Request
from llama4sdk.results import Completion, fold
from llama4sdk.testing.conformance.ground import assert_that

#: Events after which a stream counts as endless.
MAX_EVENTS: Final = 10_000


@dataclass(frozen=True)
class Outcome:
    """All events in order, and the exception raised after them."""

    events: tuple[Event, ...]
    error: Exception | None = None

    @property
    def text(self) -> str:
        """All text before the first ``Finish``, joined."""
        before = takewhile(lambda event: not isinstance(event, Finish), self.events)
        return "".join(event.text for event in before if isinstance(event, TextDelta))

    @property
    def finish(self) -> Finish | None:
        """The first ``Finish``."""
        return next((event for event in self.events if isinstance(event, Finish)), None)

    @property
    def completion(self) -> Completion:
        """The events folded, under no model's name."""
        return fold(self.events, model="", backend="")


def attempt(source: Callable[[], Iterable[Event]], *, most: int = MAX_EVENTS) -> Outcome:
    """Read a stream to its end, or to ``most`` events, keeping the error."""
    seen: list[Event] = []
    try:
        for event in source():
            seen.append(event)
            if len(seen) >= most:
                break
    except Exception as error:  # noqa: BLE001 - whatever a backend raises is the finding
        return Outcome(tuple(seen), error)
    return Outcome(tuple(seen))


async def attempt_async(events: AsyncIterator[Event]) -> Outcome:
    """The same for an asynchronous stream."""
    seen: list[Event] = []
    try:
        async for event in events:
            seen.append(event)  # noqa: PERF401 - what came before an error is kept
    except Exception as error:  # noqa: BLE001
        return Outcome(tuple(seen), error)
    return Outcome(tuple(seen))


def require_finish(outcome: Outcome) -> Finish:
    """The ``Finish`` of an answer. Skips the test where there is none."""
    if outcome.finish is None:
        pytest.skip("there is no Finish to look at; see test_a_stream_ends_with_finish")
    return outcome.finish


def answer(engine: Engine, request: Request) -> Outcome:
    """Run a request that must succeed. Fails the test when the stream raises or never ends."""
    __tracebackhide__ = True
    outcome = attempt(lambda: engine.stream(request))
    if outcome.error is not None:
        seen = len(outcome.events)
        raise AssertionError(f"engine.stream() raised {outcome.error!r} after {seen} events.") from outcome.error
    assert_that(len(outcome.events) < MAX_EVENTS, f"The stream has not ended after {MAX_EVENTS} events.", fix="end it.")
    return outcome


def close_stream(stream: Iterator[Event]) -> None:
    """Close a stream as clients do. Fails the test when it cannot be closed."""
    close = getattr(stream, "close", None)
    assert_that(
        close is not None,
        f"stream() returned {type(stream).__name__}, which has no close().",
        fix="make stream() a generator, or give its iterator a close().",
    )
    if close is not None:
        close()
