"""Scout for most requests, Maverick for hard or long ones: a rule that says why, and what a workload costs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

from pydantic import Field

from llama4sdk._text import error_text
from llama4sdk._values import Value
from llama4sdk.catalog import models
from llama4sdk.catalog.endpoint_tables import Listing
from llama4sdk.errors import ConfigurationError, ContextLengthError

Difficulty: TypeAlias = Literal["easy", "usual", "hard"]


class RequestProfile(Value):
    """A request as far as it is known before it runs. Images are counted in ``prompt_tokens``, too."""

    #: A client without a tokenizer gives the upper bound: one for each byte.
    prompt_tokens: int = Field(ge=0)
    #: 0 where no limit was given.
    max_tokens: int = Field(ge=0)
    images: int = Field(default=0, ge=0)
    #: Tools that may be called.
    tools: int = Field(default=0, ge=0)
    #: The caller's word; nothing is read out of the prompt.
    difficulty: Difficulty = "usual"


class RoutingRule(Value):
    """The limits from which on Maverick is asked, and the context that each model has where it runs."""

    scout_context: int = Field(default=models.SCOUT.context_length or 0, ge=1)
    maverick_context: int = Field(default=models.MAVERICK.context_length or 0, ge=1)
    #: Tools from which on a request of usual difficulty counts as hard.
    hard_tools: int = Field(default=8, ge=1)
    #: Images from which on it does; Llama 4 was tested with five.
    hard_images: int = Field(default=5, ge=1)
    #: ``max_tokens`` from which on it does: an early mistake in a long answer is carried to its end.
    long_answer: int = Field(default=4096, ge=1)

    @property
    def contexts(self) -> dict[str, int]:
        """The context of each model."""
        return {models.SCOUT.name: self.scout_context, models.MAVERICK.name: self.maverick_context}


class Route(Value):
    """The model for a request, and the reason as a clause."""

    model: str
    reason: str


class Workload(Value):
    """A number of like requests."""

    ask: RequestProfile
    requests: int = Field(ge=0)


class ProjectedCost(Value):
    """In US dollars; every answer is taken to be as long as it may be."""

    dollars: float
    #: By model.
    requests: dict[str, int]
    #: The cost with one model alone; ``None`` where its context is too short for some request.
    all_scout: float | None
    all_maverick: float | None


#: The name of the rule (``hybrid``), a rule, or a function that gives a model's name.
RouteRule: TypeAlias = str | RoutingRule | Callable[[RequestProfile], str]


def route(request: RequestProfile, rule: RoutingRule | None = None) -> Route:
    """The model for one request: the one with its context, else Maverick for what is hard, Scout for the rest.

    Raises ContextLengthError when neither has the context.
    """
    rule = rule or RoutingRule()
    length = request.prompt_tokens + request.max_tokens
    candidates = [model for model, context in rule.contexts.items() if length <= context]
    if not candidates:
        raise ContextLengthError(
            f"{length:,} tokens are more than Scout or Maverick take here.",
            limit=max(rule.contexts.values()),
            requested=length,
            hint="Shorten the prompt, or lower max_tokens.",
        )
    if len(candidates) == 1:
        return Route(model=candidates[0], reason=f"only {candidates[0]} has a context of that length")
    if reason := _hard_reason(request, rule):
        return Route(model=models.MAVERICK.name, reason=reason)
    return Route(model=models.SCOUT.name, reason="nothing about it is hard, and scout costs less")


def _hard_reason(request: RequestProfile, rule: RoutingRule) -> str | None:
    if request.difficulty != "usual":
        return "it was said to be hard" if request.difficulty == "hard" else None
    if request.tools >= rule.hard_tools:
        return f"it has {request.tools} tools to choose from"
    if request.images >= rule.hard_images:
        return f"it has {request.images} images"
    return f"its answer may be {request.max_tokens:,} tokens long" if request.max_tokens >= rule.long_answer else None


def choose(request: RequestProfile, rule: RouteRule, contexts: Mapping[str, int]) -> Route:
    """The model for one request, by the rule or by the caller's function.

    ``contexts`` are those of the running models, as far as they are known; the rule's are shortened to them. Where even
    the longest may be too short for a prompt that was not counted, its model is taken: the engine will count.
    Raises ConfigurationError for a function that raises, or gives no name.
    """
    if callable(rule):
        return Route(model=_call_route_function(rule, request), reason="the client's route function chose it")
    rule = rule if isinstance(rule, RoutingRule) else RoutingRule()
    limits = {f"{name}_context": min(limit, contexts.get(name, limit)) for name, limit in rule.contexts.items()}
    rule = rule.model_copy(update=limits)
    try:
        return route(request, rule)
    except ContextLengthError:
        longest = max(rule.contexts, key=rule.contexts.__getitem__)
        return Route(model=longest, reason="the prompt may be very long, and its context is the longest")


def usual(rule: RouteRule) -> str:
    """The model of a request that nothing is known about."""
    return choose(RequestProfile(prompt_tokens=0, max_tokens=0), rule, {}).model


def projected_cost(
    workload: Sequence[Workload], prices: Mapping[str, Listing], rule: RoutingRule | None = None
) -> ProjectedCost:
    """The cost of a workload with the rule, and with either model alone. ``prices`` has a listing by model name.

    Raises ConfigurationError for a model without a price, ContextLengthError for a request that neither takes.
    """
    rule = rule or RoutingRule()
    counts = dict.fromkeys(rule.contexts, 0)
    dollars = 0.0
    for part in workload:
        model = route(part.ask, rule).model
        counts[model] += part.requests
        dollars += part.requests * _cost(part.ask, model, prices)
    scout, maverick = (_cost_with_one(model, workload, prices, rule) for model in rule.contexts)
    return ProjectedCost(dollars=dollars, requests=counts, all_scout=scout, all_maverick=maverick)


def _call_route_function(function: Callable[[RequestProfile], str], request: RequestProfile) -> str:
    try:
        name: object = function(request)
    except Exception as error:
        message = f"The route function raised {error_text(error)}."
        raise ConfigurationError(message, hint=f"It was given {request!r}.") from error
    if isinstance(name, str) and name:
        return name
    hint = "It gives a model's name: 'scout', 'maverick' or another."
    raise ConfigurationError(f"The route function gave {name!r}.", hint=hint)


def _cost_with_one(
    model: str, workload: Sequence[Workload], prices: Mapping[str, Listing], rule: RoutingRule
) -> float | None:
    if any(part.ask.prompt_tokens + part.ask.max_tokens > rule.contexts[model] for part in workload):
        return None
    return sum(part.requests * _cost(part.ask, model, prices) for part in workload)


def _cost(request: RequestProfile, model: str, prices: Mapping[str, Listing]) -> float:
    cost = prices[model].cost(request.prompt_tokens, request.max_tokens) if model in prices else None
    if cost is None:
        hint = "Pass one: llama4sdk.catalog.endpoint_tables.Listing."
        raise ConfigurationError(f"There is no price of '{model}'.", hint=hint)
    return cost
