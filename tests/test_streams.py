"""A stream ends with its finish marker or with an error; closing it stops the work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from llama4sdk.errors import ContextLengthError, StreamClosedError, StreamInterruptedError
from llama4sdk.events import Event, Finish, TextDelta, Usage
from llama4sdk.streams import Origin, Stream

END = Finish(reason="stop", usage=Usage(input_tokens=1, output_tokens=2))


class Source:
    """A generator that counts what it gave and notices being closed."""

    def __init__(self, *items: Event | BaseException, gate: threading.Event | None = None) -> None:
        self.given = 0
        self.closed = False
        self.entered = threading.Event()
        self._items, self._gate = items, gate

    def __iter__(self) -> Iterator[Event]:
        try:
            for item in self._items:
                self.entered.set()
                if self._gate is not None:
                    self._gate.wait()
                if isinstance(item, BaseException):
                    raise item
                self.given += 1
                yield item
        finally:
            self.closed = True


def stream(source: Source) -> Stream:
    """A user's stream over this source."""
    return Stream(iter(source), origin=Origin("m", "b"))


def test_a_stream_gives_its_events_and_then_its_completion() -> None:
    """Iterating and folding agree."""
    source = Source(TextDelta(text="a"), TextDelta(text="b"), END)
    events = stream(source)
    assert list(events) == [TextDelta(text="a"), TextDelta(text="b"), END]
    done = events.completion()
    assert (done.text, done.finish_reason, done.usage.output_tokens) == ("ab", "stop", 2)
    assert source.closed


def test_text_deltas_are_the_text_alone() -> None:
    """Deltas without text are left out."""
    assert list(stream(Source(TextDelta(text="a"), TextDelta(text=""), TextDelta(text="b"), END)).text_deltas()) == [
        "a",
        "b",
    ]


def test_a_stream_without_finish_is_an_error_that_keeps_what_came() -> None:
    """A dropped connection is never taken for a normal end."""
    with pytest.raises(StreamInterruptedError) as caught:
        stream(Source(TextDelta(text="half"))).completion()
    assert caught.value.partial is not None
    assert (caught.value.partial.text, caught.value.partial.finish_reason) == ("half", None)


def test_nothing_follows_the_finish() -> None:
    """Events after the finish marker are not delivered, and the source is closed."""
    source = Source(TextDelta(text="a"), END, TextDelta(text="late"))
    assert stream(source).completion().text == "a"
    assert source.closed
    assert source.given == 2


def test_our_own_errors_pass_unchanged() -> None:
    """An error of the tree is not wrapped."""
    error = ContextLengthError("too long", limit=1, requested=2)
    with pytest.raises(ContextLengthError) as caught:
        next(stream(Source(error)))
    assert caught.value is error


def test_closing_stops_the_source_and_reading_on_is_an_error() -> None:
    """Leaving the with block closes the generator; a later read says so."""
    source = Source(TextDelta(text="a"), TextDelta(text="b"), END)
    with stream(source) as events:
        next(events)
    assert source.closed
    assert events.partial.text == "a"
    with pytest.raises(StreamClosedError):
        next(events)
    events.close()


def test_a_stream_that_ended_can_be_closed_and_read_again() -> None:
    """After the end, closing changes nothing and iterating gives nothing."""
    events = stream(Source(END))
    list(events)
    events.close()
    assert list(events) == []


def test_closing_from_another_thread_takes_effect_at_the_next_event() -> None:
    """A producer at work is not torn apart; its reader gets StreamClosedError and the source is closed."""
    gate = threading.Event()
    source = Source(TextDelta(text="a"), TextDelta(text="b"), END, gate=gate)
    events = stream(source)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            list(events)
        except StreamClosedError as error:
            errors.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    assert source.entered.wait(5)
    events.close()
    gate.set()
    reader.join(5)
    assert len(errors) == 1
    assert source.closed


@pytest.mark.parametrize("make", [lambda: iter([END]), lambda: iter((TextDelta(text="x"), END))])
def test_plain_iterators_are_streams_too(make: Callable[[], Iterator[Event]]) -> None:
    """A backend may return any iterator, with or without ``close``."""
    assert Stream(make(), origin=Origin("m", "b")).completion().finish_reason == "stop"
