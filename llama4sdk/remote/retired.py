"""Offers for models that an endpoint no longer serves."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from llama4sdk.catalog.endpoints import alternatives, describe_end, find

if TYPE_CHECKING:
    from llama4sdk.backend import Unavailable

__all__ = ["gone"]


def gone(backend: str, model: str, *, today: date | None = None) -> Unavailable | None:
    """What an offer answers for a model that is no longer served there; ``None`` where it is, or nobody knows.

    On machines of one's own there it is asked for by the name one gave it, which is none that is known here.
    """
    from llama4sdk.backend import Unavailable

    listing = find(backend, model)
    if listing is None or not listing.ended(today or date.today()):
        return None
    return Unavailable(
        reason=describe_end(backend, model).rstrip("."), fix=alternatives(model, besides=backend, today=today)
    )
