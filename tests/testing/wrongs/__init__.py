"""Backends that break one rule each, and a right one. Installed as a plugin of its own by ``test_kit.py``.

Every class is found as ``<lower-case name>``; ``test_kit.py`` says which tests each must fail.
"""

# ruff: noqa: D101, D106, N801 - a wrong backend's name says all there is to say

from __future__ import annotations

import itertools
import socket
import sys
import time
import wave  # noqa: F401 - 'heavyhook' claims to need this, so the hook must not have loaded it
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import ClassVar

from llama4sdk.backend import BackendInfo, Engine, Need, Offer, Unavailable
from llama4sdk.echo import EchoEngine
from llama4sdk.errors import BackendError, ContextLengthError
from llama4sdk.events import Event, Finish, TextDelta
from llama4sdk.hardware import Hardware
from llama4sdk.hookspecs import hookimpl
from llama4sdk.plan import Plan
from llama4sdk.progress import Progress
from llama4sdk.requests import EmbedRequest, Request, ScoreRequest
from llama4sdk.results import Embeddings, Scores

from .right import DECLARED, Right, RightEngine, likely  # relative: the folder is installed elsewhere


class LoadsBackwards(Right):
    def load(self, plan: Plan, *, progress: Progress | None = None) -> EchoEngine:
        if progress:
            progress(2, 3)
            progress(1, 3)
        return super().load(plan)


class NoFinish(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            return (event for event in super().stream(request) if not isinstance(event, Finish))


class TwoFinishes(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            yield from super().stream(request)
            yield Finish(reason="stop")


class TextAfterFinish(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            yield from super().stream(request)
            yield TextDelta(text=" by the way")


class StrangeEvent(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            for number, event in enumerate(super().stream(request)):
                if number == 1:
                    yield "just text"  # type: ignore[misc]
                yield event


class BrokenCharacters(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            for event in super().stream(request):
                yield TextDelta(text=event.text.replace("é", "\ufffd")) if isinstance(event, TextDelta) else event


class Unseeded(Right):
    numbers = itertools.count()

    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            if request.sampling.temperature:
                yield TextDelta(text=f"{next(Unseeded.numbers)} ")
            yield from super().stream(request)


class NoUsage(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            for event in super().stream(request):
                yield Finish(reason=event.reason) if isinstance(event, Finish) else event


class Miscounts(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            for event in super().stream(request):
                if isinstance(event, Finish):
                    usage = event.usage.model_copy(update={"input_tokens": 1})
                    event = event.model_copy(update={"usage": usage})
                yield event


class NoLogprobs(Right):
    capabilities = DECLARED.model_copy(update={"sampling": DECLARED.sampling | {"logprobs"}})


class IgnoresMaxTokens(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            unlimited = request.sampling.model_copy(update={"max_tokens": None})
            return super().stream(request.model_copy(update={"sampling": unlimited}))


class CutsInSilence(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            room = max(1, self.context_length - self.count_tokens(request))
            fewer = request.sampling.model_copy(update={"max_tokens": min(request.sampling.max_tokens or room, room)})
            return super().stream(request.model_copy(update={"sampling": fewer}))


class LeaksStop(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            for event in super().stream(request):
                if isinstance(event, Finish) and request.sampling.stop:
                    yield TextDelta(text=request.sampling.stop[0])
                yield event


class IgnoresSchemas(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            return super().stream(request.model_copy(update={"constraint": None}))


class RaisesValueError(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            try:
                yield from super().stream(request)
            except ContextLengthError as error:
                raise ValueError("too long") from error


class AnotherContext(Right):
    class engine(RightEngine):
        def __init__(self, context_length: int) -> None:
            super().__init__(context_length // 2)


class ClosesOnce(Right):
    class engine(RightEngine):
        def close(self) -> None:
            if self._closed:
                raise RuntimeError("already closed")
            super().close()


class NeverCloses(Right):
    class engine(RightEngine):
        def close(self) -> None:
            """Nothing."""


class LeaksSlots(Right):
    class engine(RightEngine):
        free = 4

        def stream(self, request: Request) -> Iterator[Event]:
            if not self.free:
                raise BackendError("no slot is free")
            self.free -= 1
            yield from super().stream(request)
            self.free += 1


class CannotBeClosed(Right):
    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            return map(lambda event: event, super().stream(request))  # noqa: C417 - a map has no close()


class SharesState(Right):
    running: ClassVar[list[Engine]] = []

    class engine(RightEngine):
        def stream(self, request: Request) -> Iterator[Event]:
            SharesState.running.append(self)
            try:
                for event in super().stream(request):
                    others = {id(other) for other in SharesState.running} - {id(self)}
                    yield TextDelta(text="?") if others and isinstance(event, TextDelta) else event
            finally:
                SharesState.running.remove(self)


class ExtraVector(Right):
    class engine(RightEngine):
        def embed(self, request: EmbedRequest) -> Embeddings:
            return super().embed(request.model_copy(update={"inputs": (*request.inputs, "one more")}))


class NotNormalised(Right):
    class engine(RightEngine):
        def embed(self, request: EmbedRequest) -> Embeddings:
            result = super().embed(request)
            return result.model_copy(update={"vectors": tuple(tuple(2 * x for x in v) for v in result.vectors)})


class BatchLeaks(Right):
    class engine(RightEngine):
        def embed(self, request: EmbedRequest) -> Embeddings:
            suffix = f" in a batch of {len(request.inputs)}"
            return super().embed(request.model_copy(update={"inputs": tuple(t + suffix for t in request.inputs)}))


class OneVectorForAll(Right):
    class engine(RightEngine):
        def embed(self, request: EmbedRequest) -> Embeddings:
            return super().embed(request.model_copy(update={"inputs": ("the same",) * len(request.inputs)}))


class AsyncDiffers(Right):
    capabilities = DECLARED.model_copy(update={"features": DECLARED.features | {"astream"}})

    class engine(RightEngine):
        async def astream(self, request: Request) -> AsyncIterator[Event]:
            yield TextDelta(text="Well, ")
            for event in self.stream(request):
                yield event


class OffersDiffer(Right):
    numbers = itertools.count()

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        reason = f"this is offer number {next(self.numbers)}"
        return super().offer(need, hardware).model_copy(update={"reason": reason})


class OffersEveryModel(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        return super().offer(need.model_copy(update={"model": None}), hardware)


class IgnoresDevice(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        return super().offer(need.model_copy(update={"device": None}), hardware)


class IgnoresQuantization(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        return super().offer(need.model_copy(update={"quantization": None}), hardware)


class ScoresTheFirst(Right):
    class engine(RightEngine):
        def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
            scores = super().score(request)
            return scores.model_copy(update={"logprobs": (likely("", 0), *scores.logprobs[1:])})


class ScoresProbabilities(Right):
    class engine(RightEngine):
        def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
            scores = super().score(request)
            others = [entry and entry.model_copy(update={"logprob": 0.6}) for entry in scores.logprobs]
            return scores.model_copy(update={"logprobs": tuple(others)})


class RanksUpwards(Right):
    class engine(RightEngine):
        def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
            scores = super().score(request)
            others = [entry and entry.model_copy(update={"top": entry.top[::-1]}) for entry in scores.logprobs]
            return scores.model_copy(update={"logprobs": tuple(others)})


class ScoresOneWindow(Right):
    class engine(RightEngine):
        def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
            scores = super().score(request)
            return scores.model_copy(update={"logprobs": scores.logprobs[: request.window]})


class ScoresAnyWindow(Right):
    class engine(RightEngine):
        def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
            return super().score(request.model_copy(update={"window": None}))


class IgnoresContext(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        return super().offer(need.model_copy(update={"context_length": None}), hardware)


class OffersTooMuch(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        return super().offer(need, hardware).model_copy(update={"memory": {"cpu": 2**60}})


class OffersElsewhere(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        return super().offer(need, hardware).model_copy(update={"memory": {"tpu:0": 0}})


class RefusesCurtly(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        answer = super().offer(need, hardware)
        return Unavailable(reason="no") if isinstance(answer, Unavailable) and need.model else answer


class OffersSlowly(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        if "pytest" not in sys.modules:  # only where the kit measures, so that the other tests stay quick
            time.sleep(2.5)
        return super().offer(need, hardware)


class OffersOnline(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        with suppress(OSError), socket.socket() as line:
            line.connect(("127.0.0.1", 9))
        return super().offer(need, hardware)


class TrustsAnything(Right):
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        return super().offer(need, hardware).model_copy(update={"source": "weights.gguf"})


class HeavyHook(Right):
    requires = ("wave",)


class Misnamed(Right):
    @classmethod
    def card(cls) -> BackendInfo:
        return super().card().model_copy(update={"name": "another"})


class Misplaced(Right):
    @classmethod
    def card(cls) -> BackendInfo:
        return super().card().model_copy(update={"cls": "wrongs:Right"})


class SaysNothing(Right):
    @classmethod
    def card(cls) -> BackendInfo:
        return super().card().model_copy(update={"summary": "Backend."})


class Singleton(Right):
    only: ClassVar[list[Right]] = []

    def __new__(cls) -> Singleton:
        if not cls.only:
            cls.only.append(super().__new__(cls))
        return cls.only[0]  # type: ignore[return-value]


class NotInstalled(Right):
    """Has no card."""


@hookimpl
def llama4sdk_backends() -> list[BackendInfo]:
    """All but the one that is not installed."""
    kinds: list[type[Right]] = [Right, *Right.__subclasses__()]
    return [kind.card() for kind in kinds if kind is not NotInstalled]
