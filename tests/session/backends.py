"""Several scripted backends in one registry, and both clients of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Literal

from llama4sdk.aclient import AsyncClient
from llama4sdk.backend import BackendInfo, Capabilities, Offer
from llama4sdk.client import Client
from llama4sdk.events import Finish, TextDelta, Usage
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.registry import Registered, Registry
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Completion, Embeddings
from llama4sdk.testing.machines import LAPTOP
from llama4sdk.testing.scripted import ScriptedBackend, ScriptedEngine, Step

Kind = Literal["local", "remote"]

ALL_FEATURES = Capabilities(features=frozenset({"chat", "generate", "tools", "embed", "count_tokens"}))


def as_completion(answer: object) -> Completion[Any]:
    """The answer as a completion, which options of any kind hide from the type checker."""
    assert isinstance(answer, Completion)
    return answer


class EmbeddingEngine(ScriptedEngine):
    """Plays its script, and raises the script's first exception for embedding and counting as well."""

    backend = ""

    def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector for each input."""
        self._raise_first_error()
        usage = Usage(input_tokens=7)
        return Embeddings(
            vectors=tuple((1.0,) for _ in request.inputs), usage=usage, model=self.model, backend=self.backend
        )

    def count_tokens(self, request: Request) -> int:
        """Always seven."""
        self._raise_first_error()
        return 7

    def _raise_first_error(self) -> None:
        if isinstance(self.steps[0], BaseException):
            raise self.steps[0]


class NamedBackend(ScriptedBackend):
    """A scripted backend of any name."""

    called = ""

    def load(self, plan: Plan, *, progress: Progress | None = None) -> EmbeddingEngine:
        """An engine with the backend's name."""
        self.plans.append(plan)
        if self.fails is not None:
            raise self.fails
        engine = EmbeddingEngine(self.steps, later=self.later, model=plan.model, context_length=plan.context_length)
        engine.backend = self.called
        self.engines.append(engine)
        return engine


def text_answer(text: str, read: int | None = 10, written: int | None = 5) -> list[Step]:
    """The script of an answer."""
    usage = Usage(input_tokens=read, output_tokens=written)
    return [TextDelta(text=text), Finish(reason="stop", usage=usage)]


class ScriptedBackends:
    """Scripted backends by name, in one registry."""

    def __init__(self) -> None:
        self._entries: list[Registered] = []
        self._given: dict[str, Any] = {}
        self._registry: Registry | None = None

    def add(
        self,
        name: str,
        steps: Sequence[Step],
        *,
        kind: Kind = "remote",
        model: str = "scout",
        context: int = 4096,
        abilities: Capabilities = ALL_FEATURES,
        **given: Any,
    ) -> ScriptedBackends:
        """Add a backend; ``given`` are attributes of a ``ScriptedBackend``."""
        card = abilities.model_copy(update={"remote": kind == "remote"})
        info = BackendInfo(name=name, summary="Scripted.", cls="tests.session.backends:NamedBackend", capabilities=card)
        self._entries.append(Registered(info=info, plugin=name, distribution="test", version="0"))
        where = Placement(kind=kind, devices=(name if kind == "remote" else "cpu",))
        offer = Offer(model=model, placement=where, context_length=context, reason="the script says so")
        self._given[name] = {"steps": tuple(steps), "answer": offer, "called": name} | given
        return self

    @property
    def registry(self) -> Registry:
        """The registry of all backends."""
        if self._registry is None:
            self._registry = Registry(self._entries)
            for name, given in self._given.items():
                vars(self._registry.backend(name)).update(given)
        return self._registry

    def backend(self, name: str) -> NamedBackend:
        """A backend by name, with a record of its requests."""
        backend = self.registry.backend(name)
        assert isinstance(backend, NamedBackend)
        return backend

    def client(self, model: str | None = "scout", **given: Any) -> Client:
        """A client of all backends."""
        return Client(model, registry=self.registry, hardware=LAPTOP, **given)

    def aclient(self, model: str | None = "scout", **given: Any) -> AsyncClient:
        """An asynchronous client of all backends."""
        return AsyncClient(model, registry=self.registry, hardware=LAPTOP, **given)

    def chat(self, how: str, model: str | None = "scout", options: Any = None, **given: Any) -> Completion[Any]:
        """A client's answer; ``how`` is sync, stream or async."""
        options = options or {}
        if how == "sync":
            with self.client(model, **given) as client:
                return as_completion(client.chat("Hi", **options))
        if how == "stream":
            with self.client(model, **given) as client, client.chat("Hi", stream=True, **options) as stream:
                next(stream)
                assert stream.backend == stream.partial.backend
                return stream.completion()

        async def main() -> Completion[Any]:
            async with self.aclient(model, **given) as client:
                return as_completion(await client.chat("Hi", **options))

        return asyncio.run(main())


CALL_KINDS = ("sync", "stream", "async")
