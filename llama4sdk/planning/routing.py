"""Scout for most requests, Maverick for hard ones: a rule that says why, and what a workload costs with it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from pydantic import Field

from llama4sdk import catalog
from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError, ContextLengthError
from llama4sdk.remote.served import Listing

__all__ = ["Ask", "Difficulty", "ProjectedCost", "Route", "RoutingRule", "Workload", "projected_cost", "route"]

Difficulty: TypeAlias = Literal["easy", "usual", "hard"]
MODELS: Final = (catalog.SCOUT.name, catalog.MAVERICK.name)


class Ask(Value):
    """What is known of a request before it runs. Images are counted in ``prompt_tokens``, too."""

    prompt_tokens: int = Field(ge=0)
    max_tokens: int = Field(ge=0)
    images: int = Field(default=0, ge=0)
    tools: int = Field(default=0, ge=0)
    """How many may be called."""
    difficulty: Difficulty = "usual"
    """What the caller says of it. Nothing is read out of the prompt."""


class RoutingRule(Value):
    """When Maverick is asked, and how long a context each model has where it runs."""

    scout_context: int = Field(default=catalog.SCOUT.context_length or 0, ge=1)
    maverick_context: int = Field(default=catalog.MAVERICK.context_length or 0, ge=1)
    hard_tools: int = Field(default=8, ge=1)
    """From so many tools on a request of usual difficulty counts as hard."""
    hard_images: int = Field(default=5, ge=1)
    """The same for images; Llama 4 was tested with five."""


class Route(Value):
    """Which model, and why in a clause."""

    model: str
    reason: str


class Workload(Value):
    """``requests`` alike."""

    ask: Ask
    requests: int = Field(ge=0)


class ProjectedCost(Value):
    """In US dollars; every answer is taken to be as long as it may be."""

    dollars: float
    requests: dict[str, int]
    """By model."""
    all_scout: float | None
    """What the same would cost with one model alone; ``None`` where its context is too short for some request."""
    all_maverick: float | None


def route(ask: Ask, rule: RoutingRule | None = None) -> Route:
    """The model for one request: what its length demands, then Maverick for what is hard, Scout for the rest.

    Raises ContextLengthError when neither has the context.
    """
    rule = rule or RoutingRule()
    able = _able(ask, rule)
    if not able:
        raise ContextLengthError(
            f"{ask.prompt_tokens + ask.max_tokens:,} tokens are more than Scout or Maverick take here.",
            limit=max(rule.scout_context, rule.maverick_context),
            requested=ask.prompt_tokens + ask.max_tokens,
            hint="Shorten the prompt, or lower max_tokens.",
        )
    if len(able) == 1:
        return Route(model=able[0], reason=f"only {able[0]} has a context of that length")
    if ask.difficulty == "hard":
        return Route(model=catalog.MAVERICK.name, reason="it was said to be hard")
    if ask.difficulty == "usual" and ask.tools >= rule.hard_tools:
        return Route(model=catalog.MAVERICK.name, reason=f"it has {ask.tools} tools to choose from")
    if ask.difficulty == "usual" and ask.images >= rule.hard_images:
        return Route(model=catalog.MAVERICK.name, reason=f"it has {ask.images} images")
    return Route(model=catalog.SCOUT.name, reason="nothing about it is hard, and scout costs less")


def projected_cost(
    workload: Sequence[Workload], prices: Mapping[str, Listing], rule: RoutingRule | None = None
) -> ProjectedCost:
    """What a workload costs with the rule, and with either model alone. ``prices`` has one for each model by name.

    Raises ConfigurationError for a model without a price, ContextLengthError for a request that neither takes.
    """
    rule = rule or RoutingRule()
    counts = dict.fromkeys(MODELS, 0)
    dollars = 0.0
    for part in workload:
        model = route(part.ask, rule).model
        counts[model] += part.requests
        dollars += part.requests * _cost(part.ask, model, prices)
    alone = {model: _alone(model, workload, prices, rule) for model in MODELS}
    return ProjectedCost(dollars=dollars, requests=counts, all_scout=alone[MODELS[0]], all_maverick=alone[MODELS[1]])


def _able(ask: Ask, rule: RoutingRule) -> list[str]:
    contexts = zip(MODELS, (rule.scout_context, rule.maverick_context), strict=True)
    return [model for model, context in contexts if ask.prompt_tokens + ask.max_tokens <= context]


def _alone(model: str, workload: Sequence[Workload], prices: Mapping[str, Listing], rule: RoutingRule) -> float | None:
    if not all(model in _able(part.ask, rule) for part in workload):
        return None
    return sum(part.requests * _cost(part.ask, model, prices) for part in workload)


def _cost(ask: Ask, model: str, prices: Mapping[str, Listing]) -> float:
    cost = prices[model].cost(ask.prompt_tokens, ask.max_tokens) if model in prices else None
    if cost is None:
        raise ConfigurationError(f"There is no price of '{model}'.", hint="Pass one: llama4sdk.remote.served.Listing.")
    return cost
