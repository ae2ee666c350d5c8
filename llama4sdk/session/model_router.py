"""The model of each request, where ``Policy(route=...)`` chooses it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from llama4sdk.errors import Llama4Error, NoBackendError
from llama4sdk.planning import routing
from llama4sdk.planning.routing import Difficulty, RequestProfile, Route, RoutingRule
from llama4sdk.requests import Request
from llama4sdk.session.deployment import DeploymentPool
from llama4sdk.session.token_bounds import request_profile
from llama4sdk.session.validation import check_request


class ModelRouter:
    """Applies a rule or the caller's function, with the contexts that models have where they run."""

    def __init__(self, rule: str | RoutingRule | Callable[[RequestProfile], str], pool: DeploymentPool) -> None:
        self._rule = rule
        self._pool = pool
        self._contexts: dict[str, int] = {}

    @cached_property
    def default_model(self) -> str:
        """The model of a request that nothing is known of."""
        return routing.usual(self._rule)

    def choose(self, request: Request, difficulty: Difficulty) -> Route:
        """The model for a request, and the reason for it. Plans for each model that the rule considers."""
        profile = self._profile(request, difficulty)
        while True:
            route = routing.choose(profile, self._rule, self._contexts)
            if callable(self._rule) or route.model in self._contexts:
                return route
            try:
                self._contexts[route.model] = self._pool.get(route.model)[0].plan().context_length
            except NoBackendError:  # a fallback may have the model
                return route

    def _profile(self, request: Request, difficulty: Difficulty) -> RequestProfile:
        """The facts of a request; its tokens are counted only where their upper bound exceeds some model's context."""
        profile = request_profile(request, difficulty)
        longest = profile.prompt_tokens + profile.max_tokens
        deployment = self._pool.get(self.default_model)[0]
        if not deployment.loaded or all(longest <= context for context in self._contexts.values()):
            return profile
        plan, engine = deployment.load()
        try:
            check_request(request, "count_tokens", plan)
            return profile.model_copy(update={"prompt_tokens": engine.count_tokens(request)})
        except Llama4Error:  # the bound has to do
            return profile
