"""The scripted backend: it plays its steps, and remembers what was done to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from llama4sdk.backend import Need, Unavailable
from llama4sdk.capabilities import Capabilities
from llama4sdk.client import Client
from llama4sdk.errors import ModelLoadError, StreamClosedError
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.plan import Placement, Plan
from llama4sdk.requests import Request
from llama4sdk.testing import LAPTOP, ScriptedBackend, ScriptedEngine, scripted_registry

REQUEST = Request(prompt="Hello")
PLAN = Plan(
    model="scripted",
    backend="scripted",
    placement=Placement(kind="local", devices=("cpu",)),
    context_length=64,
    capabilities=Capabilities(),
)


def read_in_thread(stream: Iterator[Event], seen: list[Event | Exception]) -> threading.Thread:
    """Read a stream to its end in a thread; the error that ends it is kept as well."""

    def read() -> None:
        try:
            seen.extend(stream)
        except Exception as error:  # noqa: BLE001 - it is looked at by the test
            seen.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    return thread


def test_events_are_played_and_errors_raised() -> None:
    """Steps come in order; an exception among them is raised in its place."""
    engine = ScriptedEngine([TextDelta(text="a"), ValueError("boom"), Finish(reason="stop")])
    stream = engine.stream(REQUEST)
    assert next(stream) == TextDelta(text="a")
    with pytest.raises(ValueError, match="boom"):
        next(stream)
    assert engine.requests == [REQUEST]


def test_later_requests_can_have_other_answers() -> None:
    """Each request plays the next script; the last is played again and again."""
    first, second = Finish(reason="length"), Finish(reason="stop")
    engine = ScriptedEngine([first], later=[[TextDelta(text="b"), second]])
    assert [list(engine.stream(REQUEST))[-1] for _ in range(3)] == [first, second, second]


def test_a_gate_holds_the_stream_back() -> None:
    """A threading.Event among the steps is waited for."""
    gate, seen = threading.Event(), list[Event | Exception]()
    engine = ScriptedEngine([TextDelta(text="a"), gate, Finish(reason="stop")])
    thread = read_in_thread(engine.stream(REQUEST), seen)
    gate.set()
    thread.join(timeout=30)
    assert seen == [TextDelta(text="a"), Finish(reason="stop")]


def test_closing_ends_a_stream_that_waits() -> None:
    """``close`` reaches a stream even while it stands before a gate."""
    seen: list[Event | Exception] = []
    engine = ScriptedEngine([threading.Event()])
    thread = read_in_thread(engine.stream(REQUEST), seen)
    engine.close()
    thread.join(timeout=30)
    assert [type(item) for item in seen] == [StreamClosedError]


def test_open_streams_are_counted() -> None:
    """A stream counts from its first event until it ends or is closed."""
    engine = ScriptedEngine()
    stream = engine.stream(REQUEST)
    next(stream)
    assert engine.open_streams == 1
    getattr(stream, "close")()  # noqa: B009 - an Iterator's type knows no close
    assert engine.open_streams == 0


def test_a_backend_remembers_its_engines() -> None:
    """Plans, engines and offers asked for are kept, in order."""
    backend = ScriptedBackend()
    engine = backend.load(PLAN)
    backend.offer(Need(), LAPTOP)
    assert (backend.plans, backend.engines, backend.asked) == ([PLAN], [engine], [(Need(), LAPTOP)])
    assert engine.context_length == PLAN.context_length


def test_a_backend_can_refuse_or_fail() -> None:
    """``answer`` may be a refusal or an exception, and ``fails`` is what ``load`` raises."""

    class Failing(ScriptedBackend):
        answer = Unavailable(reason="it was told to refuse")
        fails = ModelLoadError("no model")

    assert Failing().offer(Need(), LAPTOP) == Unavailable(reason="it was told to refuse")
    with pytest.raises(ModelLoadError):
        Failing().load(PLAN)


def test_a_client_can_stand_on_a_script() -> None:
    """With a scripted registry, a client needs no plugin and no model."""
    registry, backend = scripted_registry()
    with Client("scripted", registry=registry, hardware=LAPTOP) as client:
        assert client.chat("Hi").text == "Hello world."
    assert backend.engines[0].closed
