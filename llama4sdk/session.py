"""What ``Client`` and ``AsyncClient`` share: one plan, one engine, and the checks before any work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from llama4sdk import settings
from llama4sdk.checks import check_request, check_score, require
from llama4sdk.errors import (
    BackendError,
    ClientClosedError,
    DeviceMemoryError,
    Llama4Error,
    NoBackendError,
    UnknownModelError,
)
from llama4sdk.streams import AsyncStream, Stream
from llama4sdk.text import nearest

if TYPE_CHECKING:
    from llama4sdk.backend import Engine, Need
    from llama4sdk.capabilities import Feature
    from llama4sdk.hardware import Hardware
    from llama4sdk.memory import Memory
    from llama4sdk.planning.plan import Plan
    from llama4sdk.planning.policy import Policy
    from llama4sdk.progress import Progress
    from llama4sdk.registry import Registry
    from llama4sdk.requests import EmbedRequest, Request, ScoreRequest
    from llama4sdk.results import Embeddings, Scores

__all__ = ["Session"]

logger = logging.getLogger("llama4sdk")


class Session:
    """Plans once, loads once, closes once. Safe to use from several threads."""

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
        self._need = need
        self._backend = backend
        self._policy = policy
        self._hardware = hardware
        self._probed = False
        self._download = download
        self._registry = registry
        self._lock = threading.Lock()
        self._plan: Plan | None = None
        self._engine: Engine | None = None
        self.streams: WeakSet[Stream | AsyncStream] = WeakSet()
        self._closed = False

    def plan(self) -> Plan:
        """The plan, made on first use. Touches no weights."""
        self._ensure_open()
        if self._plan is None:
            with self._lock:
                if self._plan is None:
                    self._plan = self._make_plan()
        return self._plan

    def engine(self, progress: Progress | None = None) -> Engine:
        """The engine, loaded on first use: the only slow step, which tells ``progress`` how far it is."""
        self._ensure_open()
        plan = self.plan()
        if self._engine is None:
            with self._lock:
                self._ensure_open()
                if self._engine is None:
                    self._engine = self._load(plan, progress)
        return self._engine

    @property
    def ready(self) -> bool:
        """Whether the model is loaded, so that nothing slow stands before an answer."""
        return self._engine is not None

    def prepare(self, request: Request, feature: Feature) -> tuple[Engine, Plan]:
        """Check the request; give the engine that will answer it."""
        plan = self.plan()
        check_request(request, feature, plan)
        engine = self.engine()
        return engine, self.plan()  # loading may have made another

    def stream(self, request: Request, feature: Feature) -> Stream[Any]:
        """Check the request, and start answering it. Of what type an answer is, only the request's maker knows."""
        engine, plan = self.prepare(request, feature)
        with _blame(plan, "answering"):  # a stream that is no generator may raise at once
            events = engine.stream(request)
        stream = Stream(events, model=plan.model, backend=plan.backend, constraint=request.constraint)
        self.streams.add(stream)
        return stream

    def embed(self, request: EmbedRequest) -> Embeddings:
        """Check that the backend can embed, then let it."""
        plan = self.plan()
        require("embed", plan)
        with _blame(plan, "embedding"):
            return self.engine().embed(request)

    def score(self, request: ScoreRequest, progress: Progress | None) -> Scores:
        """Check that the backend can score this, then let it."""
        plan = self.plan()
        check_score(request, plan)
        with _blame(plan, "scoring"):
            return self.engine().score(request, progress=progress)

    def count_tokens(self, request: Request) -> int:
        """Check that the backend can count, and take in what is to be counted; then let it."""
        plan = self.plan()
        check_request(request, "count_tokens", plan)
        with _blame(plan, "counting tokens"):
            return self.engine().count_tokens(request)

    def memory(self) -> Memory:
        """What the engine was seen to take, beside what was planned."""
        engine, plan = self.engine(), self.plan()
        with _blame(plan, "measuring its memory"):
            seen = engine.memory()
        return seen.model_copy(update={"predicted": plan.memory})

    def close(self) -> None:
        """End open streams and free the engine. Closing again does nothing."""
        engine = self._let_go()
        if engine is not None:
            engine.close()

    async def aclose(self) -> None:
        """The same in an event loop."""
        import asyncio

        for stream in list(self.streams):
            if isinstance(stream, AsyncStream):
                await stream.aclose()
        engine = await asyncio.to_thread(self._let_go)
        if engine is not None:
            await engine.aclose()

    def _let_go(self) -> Engine | None:
        """Take no more requests; the engine that is to be closed now."""
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        for stream in list(self.streams):
            if isinstance(stream, Stream):
                stream.close()
        return engine

    def _ensure_open(self) -> None:
        if self._closed:
            raise ClientClosedError("This client is closed.", hint="Make a new Client.")

    def _make_plan(self) -> Plan:
        from llama4sdk.hardware import Hardware
        from llama4sdk.probe import probe
        from llama4sdk.registry import Registry

        if self._registry is None:
            self._registry = Registry.discover()
        if self._hardware is None:
            path = settings.hardware_file()
            self._hardware = Hardware.from_file(path) if path else probe()
            self._probed = path is None
        return self._plan_for(self._hardware)

    def _plan_for(self, hardware: Hardware) -> Plan:
        from llama4sdk.planning import planner
        from llama4sdk.planning.offers import collect

        assert self._registry is not None  # noqa: S101 - found before anything is planned
        names = self._names(self._registry)
        needs = planner.needs(self._need, self._policy, backend=self._backend)
        answers = collect(self._registry, names, needs, hardware, deadline=settings.offer_deadline())
        try:
            return planner.choose(answers, hardware, self._policy, backend=self._backend)
        except NoBackendError as error:
            if broken := "; ".join(f"{failure.distribution}: {failure.reason}" for failure in self._registry.failures):
                error.hint = f"{error.hint or ''} A plugin that might help is broken: {broken}.".lstrip()
            raise

    def _names(self, registry: Registry) -> tuple[str, ...]:
        """Who is asked: the backend that was named, those whose own model it is, or all."""
        from llama4sdk import catalog

        model = self._need.model
        if self._backend is not None:
            info = registry.info(self._backend)
            if not info.knows(model):
                hint = nearest(str(model), info.models, "Its models")
                raise UnknownModelError(f"Backend '{info.name}' has no model '{model}'.", hint=hint)
            return (info.name,)
        if model is None:
            return registry.names
        if owners := tuple(entry.info.name for entry in registry.backends if model in entry.info.models):
            return owners
        catalog.ensure_known(model, [name for entry in registry.backends for name in entry.info.models])
        return registry.names

    def _load(self, plan: Plan, progress: Progress | None) -> Engine:
        from llama4sdk import weights

        if self._download and weights.missing(plan):
            logger.warning("Downloading the weights of '%s'.", plan.model)
            weights.pull(plan.model, progress=progress)
            plan = self._plan = self._make_plan()
        if plan.notice:
            logger.warning(plan.notice)
        try:
            return self._load_as(plan, progress)
        except DeviceMemoryError as error:
            if not self._probed:
                raise self._too_large(plan, error) from error
            logger.warning("The plan no longer fits: %s Planning again for the memory that is free now.", error.message)
        plan = self._plan = self._plan_again(plan)
        try:
            return self._load_as(plan, progress)
        except DeviceMemoryError as error:
            raise self._too_large(plan, error) from error

    def _load_as(self, plan: Plan, progress: Progress | None) -> Engine:
        assert self._registry is not None  # noqa: S101 - made with the plan
        with _blame(plan, f"loading '{plan.model}'"):
            return self._registry.backend(plan.backend).connect(plan, self._need, progress=progress)

    def _plan_again(self, plan: Plan) -> Plan:
        """For the machine as it is now: somebody took the memory since it was probed."""
        self._hardware = None
        try:
            return self._make_plan()
        except NoBackendError as error:
            raise self._too_large(plan, error) from error

    def _too_large(self, plan: Plan, error: Llama4Error) -> DeviceMemoryError:
        """With what was needed, what there was, and the best plan that needs less."""
        assert self._hardware is not None  # noqa: S101 - made with the plan
        from llama4sdk.planning.shortfall import too_large

        return too_large(plan, self._hardware, error, self._plan_for)


@contextmanager
def _blame(plan: Plan, work: str) -> Iterator[None]:
    """A stranger's exception becomes a BackendError that names the backend and what it was doing."""
    try:
        yield
    except Llama4Error:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise BackendError(f"Backend '{plan.backend}' failed while {work}: {cause}.") from error
