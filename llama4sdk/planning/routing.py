"""Scout for most requests, Maverick for hard or long ones: a rule that says why, and what a workload costs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from pydantic import Field

from llama4sdk._text import error_text
from llama4sdk._values import Value
from llama4sdk.catalog import models
from llama4sdk.errors import ConfigurationError, ContextLengthError

if TYPE_CHECKING:
    from llama4sdk.catalog.endpoint_tables import Listing

__all__ = [
    "Difficulty",
    "ProjectedCost",
    "RequestProfile",
    "Route",
    "RoutingRule",
    "Workload",
    "choose",
    "projected_cost",
    "route",
    "usual",
]

Difficulty: TypeAlias = Literal["easy", "usual", "hard"]
MODELS: Final = (models.SCOUT.name, models.MAVERICK.name)


class RequestProfile(Value):
    """What is known of a request before it runs. Images are counted in ``prompt_tokens``, too."""

    prompt_tokens: int = Field(ge=0)
    """A client that has nothing to count with says how many there are at most: one for each byte."""
    max_tokens: int = Field(ge=0)
    """0 where no limit was given."""
    images: int = Field(default=0, ge=0)
    tools: int = Field(default=0, ge=0)
    """How many may be called."""
    difficulty: Difficulty = "usual"
    """What the caller says of it. Nothing is read out of the prompt."""


class RoutingRule(Value):
    """When Maverick is asked, and how long a context each model has where it runs."""

    scout_context: int = Field(default=models.SCOUT.context_length or 0, ge=1)
    maverick_context: int = Field(default=models.MAVERICK.context_length or 0, ge=1)
    hard_tools: int = Field(default=8, ge=1)
    """From so many tools on a request of usual difficulty counts as hard."""
    hard_images: int = Field(default=5, ge=1)
    """The same for images; Llama 4 was tested with five."""
    long_answer: int = Field(default=4096, ge=1)
    """The same for ``max_tokens``: what goes wrong early in a long answer is carried to its end."""


class Route(Value):
    """Which model, and why in a clause."""

    model: str
    reason: str


class Workload(Value):
    """``requests`` alike."""

    ask: RequestProfile
    requests: int = Field(ge=0)


class ProjectedCost(Value):
    """In US dollars; every answer is taken to be as long as it may be."""

    dollars: float
    requests: dict[str, int]
    """By model."""
    all_scout: float | None
    """What the same would cost with one model alone; ``None`` where its context is too short for some request."""
    all_maverick: float | None


def route(ask: RequestProfile, rule: RoutingRule | None = None) -> Route:
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
        return Route(model=models.MAVERICK.name, reason="it was said to be hard")
    if ask.difficulty == "usual" and ask.tools >= rule.hard_tools:
        return Route(model=models.MAVERICK.name, reason=f"it has {ask.tools} tools to choose from")
    if ask.difficulty == "usual" and ask.images >= rule.hard_images:
        return Route(model=models.MAVERICK.name, reason=f"it has {ask.images} images")
    if ask.difficulty == "usual" and ask.max_tokens >= rule.long_answer:
        return Route(model=models.MAVERICK.name, reason=f"its answer may be {ask.max_tokens:,} tokens long")
    return Route(model=models.SCOUT.name, reason="nothing about it is hard, and scout costs less")


def choose(
    ask: RequestProfile, how: str | RoutingRule | Callable[[RequestProfile], str], contexts: Mapping[str, int]
) -> Route:
    """The model for one request, by the rule or by the caller's function.

    ``contexts`` are those of where models run, as far as that is known; what the rule says is shortened to them.
    Where even the longest may be too short for a prompt that was not counted, that one is taken: its engine will tell.
    Raises ConfigurationError for a function that raises, or gives no name.
    """
    if callable(how):
        return Route(model=_asked_of(how, ask), reason="the client's route function chose it")
    rule = how if isinstance(how, RoutingRule) else RoutingRule()
    lengths = dict(zip(MODELS, (rule.scout_context, rule.maverick_context), strict=True))
    lengths = {model: min(length, contexts.get(model, length)) for model, length in lengths.items()}
    scout, maverick = lengths.values()
    try:
        return route(ask, rule.model_copy(update={"scout_context": scout, "maverick_context": maverick}))
    except ContextLengthError:
        longest = max(MODELS, key=lambda model: lengths[model])
        return Route(model=longest, reason="the prompt may be very long, and its context is the longest")


def usual(how: str | RoutingRule | Callable[[RequestProfile], str]) -> str:
    """The model of a request that nothing is known of."""
    return choose(RequestProfile(prompt_tokens=0, max_tokens=0), how, {}).model


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


def _asked_of(function: Callable[[RequestProfile], str], ask: RequestProfile) -> str:
    try:
        name: object = function(ask)
    except Exception as error:
        raise ConfigurationError(
            f"The route function raised {error_text(error)}.", hint=f"It was given {ask!r}."
        ) from error
    if not isinstance(name, str) or not name:
        raise ConfigurationError(
            f"The route function gave {name!r}.", hint="It gives a model's name: 'scout', 'maverick' or another."
        )
    return name


def _able(ask: RequestProfile, rule: RoutingRule) -> list[str]:
    contexts = zip(MODELS, (rule.scout_context, rule.maverick_context), strict=True)
    return [model for model, context in contexts if ask.prompt_tokens + ask.max_tokens <= context]


def _alone(model: str, workload: Sequence[Workload], prices: Mapping[str, Listing], rule: RoutingRule) -> float | None:
    if not all(model in _able(part.ask, rule) for part in workload):
        return None
    return sum(part.requests * _cost(part.ask, model, prices) for part in workload)


def _cost(ask: RequestProfile, model: str, prices: Mapping[str, Listing]) -> float:
    cost = prices[model].cost(ask.prompt_tokens, ask.max_tokens) if model in prices else None
    if cost is None:
        raise ConfigurationError(
            f"There is no price of '{model}'.", hint="Pass one: llama4sdk.catalog.endpoints.Listing."
        )
    return cost
