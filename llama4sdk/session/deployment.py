"""A model at one place: planned once, loaded once, closed once. Safe to use from several threads."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from llama4sdk import settings
from llama4sdk._text import nearest
from llama4sdk.errors import (
    BackendError,
    ClientClosedError,
    DeviceMemoryError,
    Llama4Error,
    NoBackendError,
    UnknownModelError,
)

if TYPE_CHECKING:
    from llama4sdk.backend import Engine, Need
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Policy
    from llama4sdk.progress import Progress
    from llama4sdk.registry import Registry

__all__ = ["Deployment", "Environment", "blame", "closed"]

logger = logging.getLogger("llama4sdk")


class Environment:
    """What is installed and the machine: found when they are first asked for, once for all hosts of a client."""

    def __init__(self, registry: Registry | None, hardware: Hardware | None) -> None:
        self._registry = registry
        self._hardware = hardware
        self._lock = threading.RLock()
        self.probed = False
        """Whether the machine is this one, as it was found, and not one that was described."""

    @property
    def registry(self) -> Registry:
        """The backends there are."""
        from llama4sdk.registry import Registry

        with self._lock:
            if self._registry is None:
                self._registry = Registry.discover()
            return self._registry

    @property
    def hardware(self) -> Hardware:
        """The machine to plan for."""
        from llama4sdk.hardware import Hardware
        from llama4sdk.probe import probe

        with self._lock:
            if self._hardware is None:
                path = settings.hardware_file()
                self._hardware = Hardware.from_file(path) if path else probe()
                self.probed = path is None
            return self._hardware

    def look_again(self) -> None:
        """The machine has changed."""
        with self._lock:
            self._hardware = None


class Deployment:
    """Plans for one need, and holds the engine that was made of the plan."""

    def __init__(
        self, need: Need, backend: str | None, policy: Policy, surroundings: Environment, *, download: bool
    ) -> None:
        self._need = need
        self._backend = backend
        self._policy = policy
        self._surroundings = surroundings
        self._download = download
        self._lock = threading.Lock()
        self._plan: Plan | None = None
        self._engine: Engine | None = None
        self._closed = False

    @property
    def named(self) -> tuple[str, str]:
        """The backend and the model it is for, as far as they were named."""
        return self._backend or "any", self._need.model or "any"

    @property
    def paid_tries(self) -> int:
        """How often an answer may be bought: again where asking again after a timeout is wanted."""
        retry = self._need.endpoint.retry if self._need.endpoint else None
        return 1 + retry.retries if retry and retry.timeouts else 1

    @property
    def loaded(self) -> bool:
        """Whether nothing slow stands before an answer."""
        return self._engine is not None

    def plan(self) -> Plan:
        """The plan, made on first use. Touches no weights."""
        if self._plan is None:
            with self._lock:
                if self._plan is None:
                    self._plan = self._make_plan()
        return self._plan

    def engine(self, progress: Progress | None = None) -> Engine:
        """The engine, loaded on first use: the only slow step, which tells ``progress`` how far it is."""
        plan = self.plan()
        engine = self._engine
        if engine is None:
            with self._lock:
                if self._closed:
                    raise closed()
                if self._engine is None:
                    self._engine = self._load(plan, progress)
                engine = self._engine
        return engine

    def let_go(self) -> Engine | None:
        """Load nothing any more; the engine that is to be closed now."""
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        return engine

    def _make_plan(self) -> Plan:
        return self._plan_for(self._surroundings.hardware)

    def _plan_for(self, hardware: Hardware) -> Plan:
        from llama4sdk.planning import planner
        from llama4sdk.planning.offers import collect

        registry = self._surroundings.registry
        names = self._names(registry)
        needs = planner.needs(self._need, self._policy, backend=self._backend)
        remote = self._policy.allow_remote or self._backend is not None
        answers = collect(registry, names, needs, hardware, deadline=settings.offer_deadline(), remote=remote)
        try:
            return planner.choose(answers, hardware, self._policy, backend=self._backend)
        except NoBackendError as error:
            if broken := "; ".join(f"{failure.distribution}: {failure.reason}" for failure in registry.failures):
                error.hint = f"{error.hint or ''} A plugin that might help is broken: {broken}.".lstrip()
            raise

    def _names(self, registry: Registry) -> tuple[str, ...]:
        """Who is asked: the backend that was named, those whose own model it is, or all."""
        from llama4sdk.catalog import models

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
        models.ensure_known(model, [name for entry in registry.backends for name in entry.info.models])
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
            if not self._surroundings.probed:
                raise self._too_large(plan, error) from error
            logger.warning("The plan no longer fits: %s Planning again for the memory that is free now.", error.message)
        plan = self._plan = self._plan_again(plan)
        try:
            return self._load_as(plan, progress)
        except DeviceMemoryError as error:
            raise self._too_large(plan, error) from error

    def _load_as(self, plan: Plan, progress: Progress | None) -> Engine:
        with blame(plan, f"loading '{plan.model}'"):
            return self._surroundings.registry.backend(plan.backend).connect(plan, self._need, progress=progress)

    def _plan_again(self, plan: Plan) -> Plan:
        """For the machine as it is now: somebody took the memory since it was probed."""
        self._surroundings.look_again()
        try:
            return self._make_plan()
        except NoBackendError as error:
            raise self._too_large(plan, error) from error

    def _too_large(self, plan: Plan, error: Llama4Error) -> DeviceMemoryError:
        """With what was needed, what there was, and the best plan that needs less."""
        from llama4sdk.planning.rejections import memory_error

        return memory_error(plan, self._surroundings.hardware, error, self._plan_for)


def closed() -> ClientClosedError:
    """The error of a client that was closed."""
    return ClientClosedError("This client is closed.", hint="Make a new Client.")


@contextmanager
def blame(plan: Plan, work: str) -> Iterator[None]:
    """A stranger's exception becomes a BackendError that names the backend and what it was doing."""
    try:
        yield
    except Llama4Error:
        raise
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise BackendError(f"Backend '{plan.backend}' failed while {work}: {cause}.") from error
