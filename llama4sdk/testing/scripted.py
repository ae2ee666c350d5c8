"""A backend that plays a script: for tests of programs that use a backend, without a model."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import ClassVar, Final, TypeAlias

from llama4sdk.backend import Backend, Engine, Need, Offer, Unavailable
from llama4sdk.errors import StreamClosedError
from llama4sdk.events import Event, Finish, TextDelta, Usage
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.requests import Request

__all__ = ["ScriptedBackend", "ScriptedEngine", "Step"]

#: An event is yielded, an exception raised, a ``threading.Event`` waited for.
Step: TypeAlias = Event | BaseException | threading.Event

ANSWER: Final[tuple[Step, ...]] = (
    TextDelta(text="Hello"),
    TextDelta(text=" world."),
    Finish(reason="stop", usage=Usage(input_tokens=1, output_tokens=2)),
)

OFFER: Final = Offer(
    model="scripted",
    placement=Placement(kind="local", devices=("cpu",)),
    context_length=4096,
    reason="it only follows its script",
)

POLL_SECONDS: Final = 0.01


class ScriptedEngine(Engine):
    """Plays its steps for every request, and records its calls.

    ``later`` are the steps for the second request and those after it; its last are played again and again.

    ``requests`` are the requests seen, ``open_streams`` counts streams begun and not yet ended, ``closed`` is true
    after ``close``. Streams still open then end with StreamClosedError, even while they wait.
    """

    def __init__(
        self,
        steps: Sequence[Step] = ANSWER,
        *,
        later: Sequence[Sequence[Step]] = (),
        model: str = "scripted",
        context_length: int = 4096,
    ) -> None:
        self.steps = tuple(steps)
        self.later = tuple(later)
        self.model = model
        self.context_length = context_length
        self.requests: list[Request] = []
        self.open_streams = 0
        self.closed = False
        self._lock = threading.Lock()

    def stream(self, request: Request) -> Iterator[Event]:
        """The script's events in order. Raises whatever exception the script holds."""
        scripts = (self.steps, *self.later)
        script = scripts[min(len(self.requests), len(scripts) - 1)]
        self.requests.append(request)
        self._count(1)
        try:
            for step in script:
                self._check_open()
                if isinstance(step, threading.Event):
                    self._wait(step)
                elif isinstance(step, BaseException):
                    raise step
                else:
                    yield step
        finally:
            self._count(-1)

    def close(self) -> None:
        """End every open stream."""
        self.closed = True

    def _count(self, change: int) -> None:
        with self._lock:
            self.open_streams += change

    def _wait(self, gate: threading.Event) -> None:
        while not gate.wait(POLL_SECONDS):
            self._check_open()

    def _check_open(self) -> None:
        if self.closed:
            raise StreamClosedError("The scripted engine was closed.")


class ScriptedBackend(Backend):
    """Makes scripted engines. Subclass it to give it a name, another ``answer`` to ``offer``, or other ``steps``
    (``later`` for those of later requests).

    ``loading`` is what ``load`` says of its progress, in bytes done and in all. When ``fails`` is set, ``load`` then
    raises it. ``engines`` are those it made, in order; ``plans`` what they were made from; ``asked`` what it was asked
    to offer for.
    """

    name: ClassVar[str] = "scripted"
    answer: Offer | Unavailable | BaseException = OFFER
    steps: Sequence[Step] = ANSWER
    later: Sequence[Sequence[Step]] = ()
    loading: Sequence[tuple[int, int | None]] = ()
    fails: Exception | None = None

    def __init__(self) -> None:
        self.engines: list[ScriptedEngine] = []
        self.plans: list[Plan] = []
        self.asked: list[tuple[Need, Hardware]] = []

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """``answer``, whatever the need; raised when it is an exception."""
        self.asked.append((need, hardware))
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def load(self, plan: Plan, *, progress: Progress | None = None) -> ScriptedEngine:
        """An engine that plays ``steps``; ``progress`` is called with the numbers of ``loading``."""
        self.plans.append(plan)
        if progress is not None:
            for done, total in self.loading:
                progress(done, total)
        if self.fails is not None:
            raise self.fails
        engine = ScriptedEngine(self.steps, later=self.later, model=plan.model, context_length=plan.context_length)
        self.engines.append(engine)
        return engine
