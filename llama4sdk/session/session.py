"""The requests of a client: which deployments serve them, which streams are open, what they cost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakSet

from llama4sdk.errors import ClientClosedError, ConfigurationError, InvalidRequestError
from llama4sdk.session.budget import Budget
from llama4sdk.session.deployment import DeploymentPool, Environment, backend_errors
from llama4sdk.session.dispatch import Dispatch
from llama4sdk.session.validation import check_score
from llama4sdk.streams import AsyncStream, Stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llama4sdk.backend import Engine, Need
    from llama4sdk.capabilities import Feature
    from llama4sdk.plan import Plan
    from llama4sdk.planning.routing import Difficulty
    from llama4sdk.progress import Progress
    from llama4sdk.requests import EmbedRequest, Request, ScoreRequest
    from llama4sdk.results import Embeddings, Memory, Scores
    from llama4sdk.session.deployment import Deployment
    from llama4sdk.session.model_router import ModelRouter

AnyStream = TypeVar("AnyStream", bound="Stream[Any] | AsyncStream[Any]")


class Session:
    """Sends a client's requests to its deployments. Thread-safe; ``Client`` and ``AsyncClient`` are thin over it."""

    def __init__(self, need: Need, backend: str | None, environment: Environment) -> None:
        policy = environment.policy
        if policy.route is not None and need.model is not None:
            raise ConfigurationError(
                f"The model is named '{need.model}', and is to be chosen for each request.",
                hint="Leave out the model, or Policy(route=...).",
            )
        self.model = need.model
        self.budget = Budget(policy.max_cost)
        self._policy = policy
        self._pool = DeploymentPool(need, backend, environment)
        self._router: ModelRouter | None = None
        if policy.route is not None:
            from llama4sdk.session.model_router import ModelRouter

            self._router = ModelRouter(policy.route, self._pool)
        self._streams: WeakSet[Stream | AsyncStream] = WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    def plan(self, model: str | None = None) -> Plan:
        """The plan, made on first use; of ``model`` or of the default one where a model is chosen for each request."""
        if model is not None and self._router is None and model != self.model:
            raise ConfigurationError(
                "This client has one plan.", hint="Only with Policy(route=...) are there several; call plan()."
            )
        deployments = self._default_deployments if model in (None, self.model) else self._pool.get(model)
        return deployments[0].plan()

    def engine(self, progress: Progress | None = None) -> Engine:
        """The engine of that plan, loaded on first use; ``progress`` is called while it loads."""
        return self._default_deployments[0].load(progress).engine

    def preload(self, models: Iterable[str | None]) -> None:
        """Load what requests for these models need, so that a batch fails once; not where a fallback could help."""
        if not self._policy.fallback:
            for model in {None if self.model else model for model in models}:
                (self._pool.get(model) if model else self._default_deployments)[0].load()

    def stream(
        self, request: Request, feature: Feature, difficulty: Difficulty | None = None, model: str | None = None
    ) -> Stream[Any]:
        """Check a request, load its engine and return its stream, which sends the request when it is first read.

        ``model`` counts where the client names none. ``parsed`` of the stream's completion is of the schema's type,
        which only the caller knows.
        """
        dispatch = self._dispatch(request, feature, difficulty, model)
        dispatch.prepare(request)
        stream: Stream[Any] = Stream(dispatch.events(request), origin=dispatch.origin, constraint=request.constraint)
        return self._register(stream)

    async def astream(
        self, request: Request, feature: Feature, difficulty: Difficulty | None = None, model: str | None = None
    ) -> AsyncStream[Any]:
        """The same for asyncio; planning and loading run in a thread."""
        from llama4sdk.remote.loop_thread import run_in_thread

        def prepare() -> Dispatch:
            dispatch = self._dispatch(request, feature, difficulty, model)
            dispatch.prepare(request)
            return dispatch

        loaded = self._router is None and self._pool.is_loaded(None if self.model else model)
        dispatch = prepare() if loaded else await run_in_thread(prepare)
        stream: AsyncStream[Any] = AsyncStream(
            dispatch.aevents(request), origin=dispatch.origin, constraint=request.constraint
        )
        return self._register(stream)

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Embed texts."""
        return Dispatch(self._default_deployments, "embed", self._policy, self.budget).embed(request)

    def count_tokens(self, request: Request) -> int:
        """Count the tokens of a request's prompt."""
        return Dispatch(self._default_deployments, "count_tokens", self._policy, self.budget).count_tokens(request)

    def score(self, request: ScoreRequest, progress: Progress | None) -> Scores:
        """Score a text. No fallback is asked: scores are comparable for one model only."""
        deployment = self._default_deployments[0]
        check_score(request, deployment.plan())
        plan, engine = deployment.load()
        with backend_errors(plan.backend, "scoring"):
            return engine.score(request, progress=progress)

    def memory(self) -> Memory:
        """The memory the engine takes, beside the plan's; loads the engine if necessary."""
        plan, engine = self._default_deployments[0].load()
        with backend_errors(plan.backend, "measuring its memory"):
            memory = engine.memory()
        return memory.model_copy(update={"predicted": plan.memory})

    def close(self) -> None:
        """End open streams and free the engines. Closing again does nothing."""
        for engine in self._shut_down():
            engine.close()

    async def aclose(self) -> None:
        """The same in an event loop."""
        from llama4sdk.remote.loop_thread import run_in_thread

        for stream in self._open_streams():
            if isinstance(stream, AsyncStream):
                await stream.aclose()
        for engine in await run_in_thread(self._shut_down):
            await engine.aclose()

    def _shut_down(self) -> list[Engine]:
        """Refuse further requests and close open streams; return the engines, which are to be closed next."""
        with self._lock:
            self._closed = True
        engines = self._pool.close()
        for stream in self._open_streams():
            if isinstance(stream, Stream):
                stream.close()
        return engines

    def _open_streams(self) -> list[Stream | AsyncStream]:
        with self._lock:
            return list(self._streams)

    def _register(self, stream: AnyStream) -> AnyStream:
        """Close a stream with the client."""
        with self._lock:
            if self._closed:
                raise ClientClosedError
            self._streams.add(stream)
        return stream

    @property
    def _default_deployments(self) -> tuple[Deployment, ...]:
        return self._pool.get(self._router.default_model if self._router else None)

    def _dispatch(
        self, request: Request, feature: Feature, difficulty: Difficulty | None, model: str | None
    ) -> Dispatch:
        """Choose the model of a request, and the deployments that may answer it.

        Raises InvalidRequestError for a difficulty where no model is chosen by it.
        """
        if difficulty is not None and self._router is None:
            raise InvalidRequestError(
                "Nothing is chosen by a request's difficulty here.", hint="Make the client with Policy(route='hybrid')."
            )
        model, reason = None if self.model else model, None
        if model is None and self._router is not None:
            route = self._router.choose(request, difficulty or "usual")
            model, reason = route.model, route.reason
        return Dispatch(self._pool.get(model), feature, self._policy, self.budget, route=reason)
