"""What ``Client`` and ``AsyncClient`` share: the places to ask, the way of each request over them, and a clean end."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from llama4sdk.errors import ConfigurationError, InvalidRequestError, Llama4Error, NoBackendError
from llama4sdk.session.budget import Budget
from llama4sdk.session.deployment import Deployment, Environment, blame, closed
from llama4sdk.session.dispatch import Choice, Dispatch, Errand, Load
from llama4sdk.session.preflight import check_request, check_score, require
from llama4sdk.streams import AsyncStream, Stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llama4sdk.backend import Engine, Need
    from llama4sdk.capabilities import Feature
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Place, Policy
    from llama4sdk.planning.routing import Difficulty, RequestProfile
    from llama4sdk.progress import Progress
    from llama4sdk.registry import Registry
    from llama4sdk.requests import EmbedRequest, Request, ScoreRequest
    from llama4sdk.results import Embeddings, Memory, Scores

__all__ = ["Session"]

AnyStream = TypeVar("AnyStream", bound="Stream[Any] | AsyncStream[Any]")


class Session:
    """A host for each place and model that requests go to, made when it is needed. Safe to use from several threads."""

    def __init__(
        self,
        need: Need,
        *,
        backend: str | None,
        policy: Policy,
        hardware: Hardware | None,
        download: bool,
        registry: Registry | None,
    ) -> None:
        if policy.route is not None and need.model is not None:
            raise ConfigurationError(
                f"The model is named '{need.model}', and is to be chosen for each request.",
                hint="Leave out the model, or Policy(route=...).",
            )
        if backend is None:
            _unaddressed(need, "no backend is named that speaks to it")
        self.budget = Budget(policy.max_cost)
        self._need = need
        self._backend = backend
        self._policy = policy
        self._download = download
        self._surroundings = Environment(registry, hardware)
        self._lock = threading.Lock()
        self._hosts: dict[tuple[int, str | None], Deployment] = {}
        self._contexts: dict[str, int] = {}
        self._most_asked: str | None = None
        self._streams: WeakSet[Stream | AsyncStream] = WeakSet()
        self._closed = False

    @property
    def model(self) -> str | None:
        """The model the client was made for, if one was named."""
        return self._need.model

    def plan(self, model: str | None = None) -> Plan:
        """The plan, made on first use; where models are chosen for requests, that of the usual one or of ``model``."""
        if model is not None and self._policy.route is None and model != self._need.model:
            raise ConfigurationError(
                "This client has one plan.", hint="Only with Policy(route=...) are there several; call plan()."
            )
        return self._host(0, self._usual() if model in (None, self._need.model) else model).plan()

    def engine(self, progress: Progress | None = None) -> Engine:
        """The engine of that plan, loaded on first use; ``progress`` is told how far that is."""
        return self._host(0, self._usual()).engine(progress)

    def ready(self, models: Iterable[str | None]) -> None:
        """Load what requests for these models need, where no fallback would take over: what is wrong is told once."""
        if not self._policy.fallback:
            for model in {None if self._need.model else model for model in models}:
                self._host(0, model or self._usual()).engine()

    def trip(
        self, request: Request, feature: Feature, difficulty: Difficulty | None, model: str | None = None
    ) -> Dispatch:
        """A request's way to its answer. Whether it can be gone, only its ``prepare`` tells.

        Raises InvalidRequestError for a difficulty that nothing would come of.
        """
        if difficulty is not None and self._policy.route is None:
            raise InvalidRequestError(
                "Nothing is chosen by a request's difficulty here.", hint="Make the client with Policy(route='hybrid')."
            )
        own = None if self._need.model else model
        errand = Errand(
            doing="answering",
            check=lambda plan: check_request(request, feature, plan),
            load=lambda: _load(request),
            choose=Choice(own) if own or self._policy.route is None else lambda: self._chosen(request, difficulty),
        )
        return self._trip(errand)

    def stream(
        self, request: Request, feature: Feature, difficulty: Difficulty | None = None, model: str | None = None
    ) -> Stream[Any]:
        """Check the request, and start answering it. Of what type an answer is, only the request's maker knows."""
        trip = self.trip(request, feature, difficulty, model)
        trip.prepare()
        return self._kept(Stream(trip.events(request), origin=trip.origin, constraint=request.constraint))

    async def astream(
        self, request: Request, feature: Feature, difficulty: Difficulty | None = None, model: str | None = None
    ) -> AsyncStream[Any]:
        """The same for asyncio; what is slow about it is done in a thread."""
        trip = self.trip(request, feature, difficulty, model)
        if trip.quick:
            trip.prepare()
        else:
            import asyncio

            await asyncio.to_thread(trip.prepare)
        return self._kept(AsyncStream(trip.aevents(request), origin=trip.origin, constraint=request.constraint))

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Check that the backend can embed, then let it."""
        from llama4sdk.session.token_bounds import most_embedded

        trip = self._trip(
            Errand(
                doing="embedding",
                check=lambda plan: require("embed", plan),
                load=lambda: Load(most_embedded(request), 0),
                choose=Choice(self._usual()),
            )
        )
        found, usage = trip.whole(lambda engine: engine.embed(request), lambda found: found.usage)
        tried = trip.walk.attempts
        attempts = (*tried, trip.walk.succeeded()) if tried else found.attempts
        return found.model_copy(update={"usage": usage, "attempts": attempts})

    def score(self, request: ScoreRequest, progress: Progress | None) -> Scores:
        """Check that the backend can score this, then let it. No other place is asked: scores are one model's."""
        host = self._host(0, self._usual())
        plan = host.plan()
        check_score(request, plan)
        with blame(plan, "scoring"):
            return host.engine().score(request, progress=progress)

    def count_tokens(self, request: Request) -> int:
        """Check that the backend can count, and take in what is to be counted; then let it."""
        errand = Errand(
            doing="counting tokens",
            check=lambda plan: check_request(request, "count_tokens", plan),
            load=None,
            choose=Choice(self._usual()),
        )
        return self._trip(errand).whole(lambda engine: engine.count_tokens(request))[0]

    def memory(self) -> Memory:
        """What the engine was seen to take, beside what was planned."""
        engine, plan = self.engine(), self.plan()
        with blame(plan, "measuring its memory"):
            seen = engine.memory()
        return seen.model_copy(update={"predicted": plan.memory})

    def close(self) -> None:
        """End open streams and free the engines. Closing again does nothing."""
        for engine in self._let_go():
            engine.close()

    async def aclose(self) -> None:
        """The same in an event loop."""
        import asyncio

        for stream in self._open_streams():
            if isinstance(stream, AsyncStream):
                await stream.aclose()
        for engine in await asyncio.to_thread(self._let_go):
            await engine.aclose()

    def _let_go(self) -> list[Engine]:
        """Take no more requests; the engines that are to be closed now."""
        with self._lock:
            self._closed = True
            hosts = list(self._hosts.values())
        engines = [engine for host in hosts if (engine := host.let_go()) is not None]
        for stream in self._open_streams():
            if isinstance(stream, Stream):
                stream.close()
        return engines

    def _open_streams(self) -> list[Stream | AsyncStream]:
        with self._lock:
            return list(self._streams)

    def _kept(self, stream: AnyStream) -> AnyStream:
        """A stream that ends when the client is closed."""
        with self._lock:
            if self._closed:
                raise closed()
            self._streams.add(stream)
        return stream

    def _trip(self, errand: Errand) -> Dispatch:
        return Dispatch(errand, self._host, self._policy, self.budget)

    def _host(self, place: int, model: str | None) -> Deployment:
        """The host of a place: the client's own, or a fallback's; for this model, or for the client's."""
        if self._closed:
            raise closed()
        found = self._hosts.get((place, model))
        if found is None:
            made = self._new_host(place, model)
            with self._lock:
                if self._closed:
                    raise closed()
                found = self._hosts.setdefault((place, model), made)
        return found

    def _new_host(self, place: int, model: str | None) -> Deployment:
        registry = self._surroundings.registry
        for fallback in self._policy.places:
            registry.info(fallback.backend)  # a wrong name is found now, not on the day it is needed
        if place == 0:
            need, backend = self._need.model_copy(update={"model": model or self._need.model}), self._backend
            if backend is not None and not registry.info(backend).capabilities.remote:
                _unaddressed(need, f"'{backend}' runs on this machine")
        else:
            fallback = self._policy.places[place - 1]
            remote = registry.info(fallback.backend).capabilities.remote
            need, backend = self._need_at(fallback, model, remote=remote), fallback.backend
        return Deployment(need, backend, self._policy, self._surroundings, download=self._download)

    def _need_at(self, place: Place, model: str | None, *, remote: bool) -> Need:
        """What is asked of a fallback: patience is the client's, address and key are the place's own."""
        from llama4sdk.endpoint import Endpoint

        own = self._need.endpoint
        endpoint = place.endpoint or (own if place.backend == self._backend else None)
        if endpoint is None and own is not None and remote:
            endpoint = Endpoint(timeouts=own.timeouts, retry=own.retry, on_attempt=own.on_attempt)
        changes: dict[str, object] = {"model": place.model or model or self._need.model, "endpoint": endpoint}
        if remote:
            changes |= {"device": None, "quantization": None}
        return self._need.model_copy(update=changes)

    def _usual(self) -> str | None:
        """The model of most requests, where models are chosen."""
        from llama4sdk.planning.routing import usual

        if self._policy.route is not None and self._most_asked is None:
            self._most_asked = usual(self._policy.route)
        return self._most_asked

    def _chosen(self, request: Request, difficulty: Difficulty | None) -> Choice:
        """The model for a request; as far as the rule looks at contexts, at those of where the models run."""
        from llama4sdk.planning.routing import choose

        how = self._policy.route
        assert how is not None  # noqa: S101 - asked for only then
        ask = self._measured(request, difficulty or "usual")
        while True:
            found = choose(ask, how, self._contexts)
            if callable(how) or found.model in self._contexts:
                return Choice(found.model, found.reason)
            try:
                self._contexts[found.model] = self._host(0, found.model).plan().context_length
            except NoBackendError:  # whether another place has the model, the trip will see
                return Choice(found.model, found.reason)

    def _measured(self, request: Request, difficulty: Difficulty) -> RequestProfile:
        """What is known of a request. Tokens are counted only where their bound is too long for some model here."""
        from llama4sdk.session.token_bounds import as_ask

        ask = as_ask(request, difficulty)
        longest = ask.prompt_tokens + ask.max_tokens
        host = self._host(0, self._usual())
        if not host.loaded or all(longest <= context for context in self._contexts.values()):
            return ask
        try:
            check_request(request, "count_tokens", host.plan())
            return ask.model_copy(update={"prompt_tokens": host.engine().count_tokens(request)})
        except Llama4Error:  # the bound has to do
            return ask


def _unaddressed(need: Need, why: str) -> None:
    """Raise ConfigurationError where an address or a key was given that nothing would use."""
    if need.endpoint is not None and need.endpoint.addressed:
        raise ConfigurationError(
            f"An endpoint or its key was given, and {why}.",
            hint="Name a backend that speaks to it, such as 'openai'; 'llama4sdk backends' lists them.",
        )


def _load(request: Request) -> Load:
    from llama4sdk.session.token_bounds import most_prompt_tokens

    return Load(most_prompt_tokens(request), request.sampling.max_tokens)
