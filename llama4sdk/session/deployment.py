"""A client's deployments: a model on one backend each, planned once, loaded once, closed once. Thread-safe."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from llama4sdk import settings
from llama4sdk._text import error_text, nearest
from llama4sdk.errors import (
    BackendError,
    ClientClosedError,
    ConfigurationError,
    DeviceMemoryError,
    Llama4Error,
    NoBackendError,
    UnknownModelError,
)

if TYPE_CHECKING:
    from llama4sdk.backend import Engine, Need
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Plan
    from llama4sdk.planning.policy import Place, Policy
    from llama4sdk.progress import Progress
    from llama4sdk.registry import Registry

logger = logging.getLogger("llama4sdk")


class Environment:
    """A client's policy, the installed backends and this machine, which its deployments share.

    Backends and machine are discovered on first use. ``download`` allows to fetch missing weights. ``probed`` says
    whether the hardware is that of this machine rather than a description of another.
    """

    def __init__(
        self, policy: Policy, registry: Registry | None = None, hardware: Hardware | None = None, *, download: bool
    ) -> None:
        self.policy = policy
        self.download = download
        self._registry = registry
        self._hardware = hardware
        self._lock = threading.RLock()
        self.probed = False

    @property
    def registry(self) -> Registry:
        """The installed backends, or those that were given."""
        from llama4sdk.registry import Registry

        with self._lock:
            if self._registry is None:
                self._registry = Registry.discover()
            return self._registry

    @property
    def hardware(self) -> Hardware:
        """The machine to plan for: as given, as described in LLAMA4SDK_HARDWARE, or this one."""
        from llama4sdk.hardware import Hardware
        from llama4sdk.probe import probe

        with self._lock:
            if self._hardware is None:
                path = settings.hardware_file()
                self._hardware = Hardware.from_file(path) if path else probe()
                self.probed = path is None
            return self._hardware

    def discard_hardware(self) -> None:
        """Probe again at the next use, because the machine has changed."""
        with self._lock:
            self._hardware = None


class LoadedModel(NamedTuple):
    """An engine and the plan it was loaded by."""

    plan: Plan
    engine: Engine


class Deployment:
    """A plan for what a client needs, and the engine that is loaded by it."""

    def __init__(self, need: Need, backend: str | None, environment: Environment) -> None:
        """``backend`` is ``None`` where the planner chooses."""
        self._need = need
        self._backend = backend
        self._environment = environment
        self._lock = threading.Lock()
        self._plan: Plan | None = None
        self._model: LoadedModel | None = None
        self._closed = False

    @property
    def names(self) -> tuple[str, str]:
        """The backend and the model of the plan; before there is one, those that were named, or ``any``."""
        if self._plan is not None:
            return self._plan.backend, self._plan.model
        return self._backend or "any", self._need.model or "any"

    @property
    def max_billed_attempts(self) -> int:
        """Answers that an endpoint may make, and bill, for one request: several where timeouts are retried."""
        retry = self._need.endpoint.retry if self._need.endpoint else None
        return 1 + retry.retries if retry and retry.timeouts else 1

    @property
    def loaded(self) -> bool:
        """Whether ``plan`` and ``load`` return at once."""
        return self._model is not None

    def plan(self) -> Plan:
        """The plan, made on first use. Touches no weights."""
        if self._plan is None:
            with self._lock:
                self._check_open()
                if self._plan is None:
                    self._plan = self._make_plan(self._environment.hardware)
        return self._plan

    def load(self, progress: Progress | None = None) -> LoadedModel:
        """The engine, loaded on first use, and its plan, which loading may have replaced."""
        model = self._model
        if model is None:
            plan = self.plan()
            with self._lock:
                self._check_open()
                if self._model is None:
                    self._model = self._load(plan, progress)
                model = self._model
        return model

    def detach(self) -> Engine | None:
        """Refuse to plan and load from now on; return the engine, if there is one, for the caller to close."""
        with self._lock:
            self._closed = True
            model, self._model = self._model, None
        return model.engine if model else None

    def _check_open(self) -> None:
        if self._closed:
            raise ClientClosedError

    def _make_plan(self, hardware: Hardware) -> Plan:
        from llama4sdk.planning import planner
        from llama4sdk.planning.offers import collect

        registry, policy = self._environment.registry, self._environment.policy
        names = self._candidates(registry)
        needs = planner.needs(self._need, policy, backend=self._backend)
        remote = policy.allow_remote or self._backend is not None
        answers = collect(registry, names, needs, hardware, deadline=settings.offer_deadline(), remote=remote)
        try:
            return planner.choose(answers, hardware, policy, backend=self._backend)
        except NoBackendError as error:
            if broken := "; ".join(f"{failure.distribution}: {failure.reason}" for failure in registry.failures):
                error.hint = f"{error.hint or ''} A plugin that might help is broken: {broken}.".lstrip()
            raise

    def _candidates(self, registry: Registry) -> tuple[str, ...]:
        """The backends to ask: the one that was named, those whose own model it is, or all."""
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

    def _load(self, plan: Plan, progress: Progress | None) -> LoadedModel:
        """Download what is missing and load; once more by a new plan where memory was taken since the first."""
        from llama4sdk import weights

        if self._environment.download and weights.needs_pull(plan):
            logger.warning("Downloading the weights of '%s'.", plan.model)
            weights.pull(plan.model, progress=progress)
            plan = self._plan = self._make_plan(self._environment.hardware)
        if plan.notice:
            logger.warning(plan.notice)
        try:
            return self._connect(plan, progress)
        except DeviceMemoryError as error:
            if not self._environment.probed:
                raise self._memory_error(plan, error) from error
            logger.warning("The plan no longer fits: %s Planning again for the memory that is free now.", error.message)
        self._environment.discard_hardware()
        try:
            plan = self._plan = self._make_plan(self._environment.hardware)
            return self._connect(plan, progress)
        except (DeviceMemoryError, NoBackendError) as error:
            raise self._memory_error(plan, error) from error

    def _connect(self, plan: Plan, progress: Progress | None) -> LoadedModel:
        with backend_errors(plan.backend, f"loading '{plan.model}'"):
            backend = self._environment.registry.backend(plan.backend)
            return LoadedModel(plan, backend.connect(plan, self._need, progress=progress))

    def _memory_error(self, plan: Plan, error: Llama4Error) -> DeviceMemoryError:
        """The error for a plan that does not fit, with the best plan that needs less memory."""
        from llama4sdk.planning.rejections import memory_error

        return memory_error(plan, self._environment.hardware, error, self._make_plan)


class DeploymentPool:
    """Creates deployments on first use; each plans and loads when a request needs it. Thread-safe."""

    def __init__(self, need: Need, backend: str | None, environment: Environment) -> None:
        """Raises ConfigurationError for an address or key that no backend is named for."""
        if backend is None:
            _refuse_endpoint(need, "no backend is named that speaks to it")
        self._need = need
        self._backend = backend
        self._environment = environment
        self._lock = threading.Lock()
        self._deployments: dict[str | None, tuple[Deployment, ...]] = {}
        self._closed = False

    def get(self, model: str | None) -> tuple[Deployment, ...]:
        """The client's own deployment of a model, then those of its fallbacks; ``None`` is the client's model.

        Raises UnknownBackendError, ConfigurationError for an address that a local backend has no use for, and
        ClientClosedError.
        """
        with self._lock:
            if self._closed:
                raise ClientClosedError
            if model not in self._deployments:
                self._deployments[model] = self._create(model)
            return self._deployments[model]

    def is_loaded(self, model: str | None) -> bool:
        """Whether the client's own deployment of a model has its engine."""
        deployments = self._deployments.get(model)
        return deployments is not None and deployments[0].loaded

    def close(self) -> list[Engine]:
        """Refuse to load anything from now on; return the loaded engines, for the caller to close."""
        with self._lock:
            self._closed = True
            deployments = [deployment for each in self._deployments.values() for deployment in each]
        return [engine for deployment in deployments if (engine := deployment.detach()) is not None]

    def _create(self, model: str | None) -> tuple[Deployment, ...]:
        need = self._need.model_copy(update={"model": model or self._need.model})
        registry = self._environment.registry
        if self._backend is not None and not registry.info(self._backend).capabilities.remote:
            _refuse_endpoint(need, f"'{self._backend}' runs on this machine")
        needs = [(need, self._backend)]
        for fallback in self._environment.policy.places:
            remote = registry.info(fallback.backend).capabilities.remote
            needs.append((self._fallback_need(fallback, need, remote=remote), fallback.backend))
        return tuple(Deployment(need, backend, self._environment) for need, backend in needs)

    def _fallback_need(self, fallback: Place, need: Need, *, remote: bool) -> Need:
        """The client's need with the fallback's own address and key; timeouts and retries are the client's."""
        from llama4sdk.endpoint import Endpoint

        own = need.endpoint
        endpoint = fallback.endpoint or (own if fallback.backend == self._backend else None)
        if endpoint is None and own is not None and remote:
            endpoint = Endpoint(timeouts=own.timeouts, retry=own.retry, on_attempt=own.on_attempt)
        changes: dict[str, object] = {"model": fallback.model or need.model, "endpoint": endpoint}
        if remote:
            changes |= {"device": None, "quantization": None}
        return need.model_copy(update=changes)


@contextmanager
def backend_errors(backend: str, activity: str) -> Iterator[None]:
    """Convert exceptions that are not the SDK's own into a BackendError that names the backend and its activity."""
    try:
        yield
    except Llama4Error:
        raise
    except Exception as error:
        raise BackendError(f"Backend '{backend}' failed while {activity}: {error_text(error)}.") from error


def _refuse_endpoint(need: Need, reason: str) -> None:
    """Raise ConfigurationError where an address or a key was given that nothing would use."""
    if need.endpoint is not None and need.endpoint.addressed:
        raise ConfigurationError(
            f"An endpoint or its key was given, or an HTTP client for one, and {reason}.",
            hint="Name a backend that speaks to it, such as 'openai'; 'llama4sdk backends' lists them.",
        )
