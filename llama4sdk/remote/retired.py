"""Refusals of models that an endpoint no longer serves."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from llama4sdk.catalog.endpoints import alternatives, describe_end, find

if TYPE_CHECKING:
    from llama4sdk.backend import Unavailable


def find_retirement(backend: str, model: str, *, today: date | None = None) -> Unavailable | None:
    """Return the refusal of a model that the endpoint no longer serves; ``None`` for other models.

    A user's own deployment of such a model has another name, and is not refused.
    """
    from llama4sdk.backend import Unavailable

    listing = find(backend, model)
    if listing is None or not listing.ended(today or date.today()):
        return None
    return Unavailable(
        reason=describe_end(backend, model).rstrip("."), fix=alternatives(model, besides=backend, today=today)
    )
