"""Who serves Llama 4 by the token: names, limits, prices and ends, each with its source and the day it was looked up.

Endpoints end and prices change: after ``CURRENT_FOR`` a listing is shown with its day and no longer called current.
What the SDK brings is in ``served.csv``; ``LLAMA4SDK_ENDPOINTS`` names a file that overrides it, row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias

from pydantic import Field, field_serializer

from llama4sdk import catalog
from llama4sdk._values import Value
from llama4sdk.errors import ModelRetiredError
from llama4sdk.events import Usage
from llama4sdk.remote import served_files

if TYPE_CHECKING:
    from llama4sdk.backend import Unavailable

__all__ = [
    "CURRENT_FOR",
    "Ability",
    "Listing",
    "alternatives",
    "find",
    "gone",
    "id_for",
    "listings",
    "pricing",
    "retired_error",
    "serving",
]

CURRENT_FOR: Final = timedelta(days=90)
"""How long what was seen is taken to hold."""

NAMED: Final = 4
"""How many alternatives a message names."""

Ability: TypeAlias = Literal["images", "tools", "stream_tools", "tool_choice", "json_schema"]

Tokens: TypeAlias = Annotated[int, Field(ge=1)]
Dollars: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Listing(Value):
    """One model at one endpoint. ``None`` is what nobody has published; prices are US dollars for a million tokens."""

    endpoint: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]
    backend: str | None = None
    """The backend that speaks to it, as ``Client(backend=...)`` takes it; ``None`` where there is none."""
    ids: tuple[str, ...] = ()
    """What the endpoint calls the model; the first is what is asked for."""
    status: Literal["active", "dedicated", "retired"] = "active"
    """``dedicated``: only on machines rented for oneself there, under whatever name one gave it, not by the token."""
    ends: date | None = None
    """The day it ends, or ended, to be served by the token."""
    context: Tokens | None = None
    """The longest it accepts, which is often less than the model's own."""
    max_output: Tokens | None = None
    """Of one answer, where that is less than the context."""
    input: Dollars | None = None
    output: Dollars | None = None
    features: frozenset[Ability] = frozenset()
    """What is known to work there."""
    lacks: frozenset[Ability] = frozenset()
    """What is known not to; what is in neither is unknown."""
    max_images: Tokens | None = None
    """In one request."""
    max_temperature: Annotated[float, Field(gt=0)] | None = None
    tokens_per_second: Annotated[float, Field(gt=0)] | None = None
    """Of one answer."""
    speed_seen: str = ""
    confidence: Literal["documented", "reported", "unverified"] = "reported"
    """``documented``: by whoever runs it. ``reported``: by others. ``unverified``: nobody to quote."""
    source: str = ""
    checked: date | None = None
    """The day it was looked up; ``None`` for what a user's own file says without one."""

    @field_serializer("features", "lacks", when_used="json")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        return sorted(names)

    @property
    def blended(self) -> float | None:
        """For a million tokens of which three in four are prompt, as prices are usually compared."""
        return None if self.input is None or self.output is None else (3 * self.input + self.output) / 4

    def cost(self, prompt: int, answer: int) -> float | None:
        """Dollars for so many tokens; ``None`` without a price."""
        if self.input is None or self.output is None:
            return None
        return (self.input * prompt + self.output * answer) / 1e6

    def can(self, ability: Ability) -> bool | None:
        """Whether that works there; ``None`` where nobody has said."""
        return True if ability in self.features else False if ability in self.lacks else None

    def ended(self, today: date) -> bool:
        """Whether the model is no longer served there by the token."""
        return self.status != "active" or (self.ends is not None and self.ends <= today)

    def old(self, today: date) -> bool:
        """Whether it was looked up too long ago to be taken for today's."""
        return self.checked is not None and today - self.checked > CURRENT_FOR

    def current(self, today: date) -> bool:
        """Whether it was seen not long ago, and is still offered."""
        return not self.old(today) and not self.ended(today)

    def state(self, today: date) -> str:
        """``active``, ``until 2027-03-30``, ``ended 2026-07-17`` or ``dedicated``."""
        if self.status == "dedicated":
            return "dedicated"
        if self.ended(today):
            return f"ended {self.ends}" if self.ends else "ended"
        return f"until {self.ends}" if self.ends else "active"


def listings() -> tuple[Listing, ...]:
    """All that are known, those that ended included, by endpoint.

    Raises ConfigurationError for a user's file that cannot be read, with the line and the column at fault.
    """
    return served_files.read(Listing)


def find(where: str, model: str) -> Listing | None:
    """A model at an endpoint, named in any case; either by the SDK's name for it or by the endpoint's own."""
    place, name = where.lower(), _name(model)
    for listing in listings():
        named = place in (listing.endpoint.lower(), listing.backend)
        if named and (listing.model == name or model in listing.ids):
            return listing
    return None


def serving(model: str, *, today: date | None = None) -> tuple[Listing, ...]:
    """Who serves it today by the token: first what a backend speaks to, the cheapest first."""
    name, day = _name(model), today or date.today()
    found = [one for one in listings() if (one.model == name or model in one.ids) and not one.ended(day)]
    return tuple(sorted(found, key=_preference))


def id_for(backend: str, model: str) -> str | None:
    """What that endpoint calls the model. Names that are none of ours pass; ``None`` where nobody has said."""
    listing = find(backend, model)
    if listing is not None and listing.ids:
        return model if model in listing.ids else listing.ids[0]
    return None if catalog.find(model) else model


def pricing(backend: str, model: str) -> Callable[[Usage], float | None]:
    """What an answer of such usage costs there, in dollars; ``None`` where no price or no count is known."""
    listing = find(backend, model)

    def cost(usage: Usage) -> float | None:
        if listing is None or usage.input_tokens is None or usage.output_tokens is None:
            return None
        return listing.cost(usage.input_tokens, usage.output_tokens)

    return cost


def alternatives(model: str, *, besides: str | None = None, today: date | None = None) -> str:
    """A sentence: who else serves it by the token, for how much, and the backend to pass."""
    others = [one for one in serving(model, today=today) if one.backend and besides not in (one.backend, one.endpoint)]
    told = "'llama4sdk models --remote' lists who serves it."
    if not others:
        return told
    offers = ", ".join(_offered(one) for one in others[:NAMED])
    return f"Still served, at dollars per million tokens in/out: {offers}; {told}"


def retired_error(
    backend: str,
    model: str,
    *,
    status: int | None = None,
    request_id: str | None = None,
    said: str = "",
    today: date | None = None,
) -> ModelRetiredError:
    """The error for a model that is no longer served there, with what still serves it. ``said`` is the endpoint's."""
    return ModelRetiredError(
        f"{_ended(backend, model)}{f' It said: {said}' if said else ''}",
        backend=backend,
        status=status,
        request_id=request_id,
        hint=alternatives(model, besides=backend, today=today),
    )


def gone(backend: str, model: str, *, today: date | None = None) -> Unavailable | None:
    """What an offer answers for a model that is no longer served there; ``None`` where it is, or nobody knows.

    On machines of one's own there it is asked for by the name one gave it, which is none that is known here.
    """
    from llama4sdk.backend import Unavailable

    listing = find(backend, model)
    if listing is None or not listing.ended(today or date.today()):
        return None
    return Unavailable(reason=_ended(backend, model).rstrip("."), fix=alternatives(model, besides=backend, today=today))


def _ended(backend: str, model: str) -> str:
    listing = find(backend, model)
    if listing is None:
        return f"'{backend}' no longer serves '{model}'."
    since = f" since {listing.ends}" if listing.ends else ""
    if listing.status == "dedicated":
        return (
            f"{listing.endpoint} serves '{listing.model}' no longer by the token{since}, only on machines rented for "
            "oneself, by the name of that deployment."
        )
    return f"{listing.endpoint} no longer serves '{listing.model}'{since}."


def _offered(listing: Listing) -> str:
    price = "" if listing.blended is None else f" {listing.input:.2f}/{listing.output:.2f}"
    doubt = ", unverified" if listing.confidence == "unverified" else ""
    return f"{listing.endpoint}{price} (backend='{listing.backend}'{doubt})"


def _preference(listing: Listing) -> tuple[bool, bool, bool, float, str]:
    price = listing.blended
    doubtful = listing.confidence == "unverified"
    return listing.backend is None, doubtful, price is None, price or 0.0, listing.endpoint


def _name(model: str) -> str:
    spec = catalog.find(model)
    return spec.name if spec else model
