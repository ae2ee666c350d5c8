"""Who serves Llama 4 by the token: names, limits, prices and ends, each with its source and the day it was looked up.

Endpoints end and prices change: after ``CURRENT_FOR`` a listing is shown with its day and no longer called current.
What the SDK brings is in ``endpoints.csv``; ``LLAMA4SDK_ENDPOINTS`` names a file that overrides it, row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from llama4sdk.catalog import endpoint_tables, models
from llama4sdk.catalog.endpoint_tables import NAMED, Listing
from llama4sdk.errors import ModelRetiredError
from llama4sdk.events import Usage

__all__ = ["alternatives", "find", "id_for", "listings", "pricing", "retired_error", "serving"]


def listings() -> tuple[Listing, ...]:
    """All that are known, those that ended included, by endpoint.

    Raises ConfigurationError for a user's file that cannot be read, with the line and the column at fault.
    """
    return endpoint_tables.read(Listing)


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
    return None if models.find(model) else model


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
        f"{end_of(backend, model)}{f' It said: {said}' if said else ''}",
        backend=backend,
        status=status,
        request_id=request_id,
        hint=alternatives(model, besides=backend, today=today),
    )


def end_of(backend: str, model: str) -> str:
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
    spec = models.find(model)
    return spec.name if spec else model
