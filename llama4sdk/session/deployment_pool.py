"""The deployments of a client: one for each model and backend that its requests may go to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from llama4sdk.errors import ConfigurationError
from llama4sdk.session.deployment import Deployment, Environment, closed_client_error

if TYPE_CHECKING:
    from llama4sdk.backend import Engine, Need
    from llama4sdk.planning.policy import Place, Policy


class DeploymentPool:
    """Creates deployments on first use; each plans and loads when a request needs it. Thread-safe."""

    def __init__(
        self, need: Need, backend: str | None, policy: Policy, environment: Environment, *, download: bool
    ) -> None:
        """Raises ConfigurationError for an address or key that no backend is named for."""
        if backend is None:
            _refuse_endpoint(need, "no backend is named that speaks to it")
        self._need = need
        self._backend = backend
        self._policy = policy
        self._environment = environment
        self._download = download
        self._lock = threading.Lock()
        self._deployments: dict[str | None, tuple[Deployment, ...]] = {}
        self._closed = False

    def get(self, model: str | None) -> tuple[Deployment, ...]:
        """The client's own deployment of a model, then those of its fallbacks; ``None`` is the client's model.

        Raises UnknownBackendError, ConfigurationError for an address that a local backend has no use for, and
        ClientClosedError.
        """
        if self._closed:
            raise closed_client_error()
        deployments = self._deployments.get(model)
        if deployments is None:
            created = self._create(model)
            with self._lock:
                if self._closed:
                    raise closed_client_error()
                deployments = self._deployments.setdefault(model, created)
        return deployments

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
        for fallback in self._policy.places:
            remote = registry.info(fallback.backend).capabilities.remote
            needs.append((self._fallback_need(fallback, need, remote=remote), fallback.backend))
        return tuple(
            Deployment(need, backend, self._policy, self._environment, download=self._download)
            for need, backend in needs
        )

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


def _refuse_endpoint(need: Need, reason: str) -> None:
    """Raise ConfigurationError where an address or a key was given that nothing would use."""
    if need.endpoint is not None and need.endpoint.addressed:
        raise ConfigurationError(
            f"An endpoint or its key was given, or an HTTP client for one, and {reason}.",
            hint="Name a backend that speaks to it, such as 'openai'; 'llama4sdk backends' lists them.",
        )
