"""Endpoints that serve Llama 4 by the token: names, limits, prices and ends, each with its source and its date.

Endpoints end and prices change: after ``CURRENT_FOR`` a listing is shown with its day and no longer called current.
What the SDK brings is in ``endpoints.csv``; ``LLAMA4SDK_ENDPOINTS`` names a file that overrides it, row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

from llama4sdk.backend import Unavailable
from llama4sdk.catalog import models
from llama4sdk.catalog.endpoint_tables import MAX_NAMED_ALTERNATIVES, Listing, listings
from llama4sdk.errors import ModelRetiredError
from llama4sdk.events import Usage


def find(endpoint: str, model: str) -> Listing | None:
    """The listing of a model, by the SDK's or the endpoint's name for it, at an endpoint named in any case."""
    lower_name = endpoint.lower()
    there = (listing for listing in _listings_of(model) if lower_name in (listing.endpoint.lower(), listing.backend))
    return next(there, None)


def serving(model: str, *, today: date | None = None) -> tuple[Listing, ...]:
    """Listings that serve the model today: those with a backend first, the cheapest first."""
    day = today or date.today()
    return tuple(sorted((listing for listing in _listings_of(model) if not listing.ended(day)), key=_preference))


def _listings_of(model: str) -> list[Listing]:
    spec = models.find(model)
    name = spec.name if spec else model
    return [listing for listing in listings() if listing.model == name or model in listing.ids]


def id_for(backend: str, model: str) -> str | None:
    """The endpoint's name for the model. Names unknown to the SDK stay as they are; ``None`` where nobody has said."""
    listing = find(backend, model)
    if listing is not None and listing.ids:
        return model if model in listing.ids else listing.ids[0]
    return None if models.find(model) else model


def pricing(backend: str, model: str) -> Callable[[Usage], float | None]:
    """A function from an answer's usage to its cost in dollars; it gives ``None`` without a price or a count."""
    listing = find(backend, model)

    def cost(usage: Usage) -> float | None:
        if listing is None or usage.input_tokens is None or usage.output_tokens is None:
            return None
        return listing.cost(usage.input_tokens, usage.output_tokens)

    return cost


def alternatives(model: str, *, besides: str | None = None, today: date | None = None) -> str:
    """A sentence: who else serves it by the token, for how much, and the backend to pass."""
    advice = "'llama4sdk models --remote' lists who serves it."
    reachable = (listing for listing in serving(model, today=today) if listing.backend)
    others = [listing for listing in reachable if besides not in (listing.backend, listing.endpoint)]
    if not others:
        return advice
    offers = ", ".join(_describe_offer(listing) for listing in others[:MAX_NAMED_ALTERNATIVES])
    return f"Still served, at dollars per million tokens in/out: {offers}; {advice}"


def retired_error(
    backend: str,
    model: str,
    *,
    status: int | None = None,
    request_id: str | None = None,
    said: str = "",
    today: date | None = None,
) -> ModelRetiredError:
    """The error for a model no longer served there, with who still serves it; ``said`` is the endpoint's message."""
    return ModelRetiredError(
        f"{describe_end(backend, model)}{f' It said: {said}' if said else ''}",
        backend=backend,
        status=status,
        request_id=request_id,
        hint=alternatives(model, besides=backend, today=today),
    )


def find_retirement(backend: str, model: str, *, today: date | None = None) -> Unavailable | None:
    """The refusal of a model that the endpoint no longer serves; ``None`` for other models.

    A user's own deployment of such a model has another name, and is not refused.
    """
    listing = find(backend, model)
    if listing is None or not listing.ended(today or date.today()):
        return None
    fix = alternatives(model, besides=backend, today=today)
    return Unavailable(reason=describe_end(backend, model).rstrip("."), fix=fix)


def describe_end(backend: str, model: str) -> str:
    """A sentence: that the endpoint no longer serves the model, and since when."""
    listing = find(backend, model)
    if listing is None:
        return f"'{backend}' no longer serves '{model}'."
    since = f" since {listing.ends}" if listing.ends else ""
    if listing.status == "dedicated":
        only = "only on machines rented for oneself, by the name of that deployment"
        return f"{listing.endpoint} serves '{listing.model}' no longer by the token{since}, {only}."
    return f"{listing.endpoint} no longer serves '{listing.model}'{since}."


def _describe_offer(listing: Listing) -> str:
    price = "" if listing.blended is None else f" {listing.input:.2f}/{listing.output:.2f}"
    doubt = ", unverified" if listing.confidence == "unverified" else ""
    return f"{listing.endpoint}{price} (backend='{listing.backend}'{doubt})"


def _preference(listing: Listing) -> tuple[bool, bool, bool, float, str]:
    price = listing.blended
    doubtful = listing.confidence == "unverified"
    return listing.backend is None, doubtful, price is None, price or 0.0, listing.endpoint
