"""The policy: how far a client may choose for itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from llama4sdk._values import Value
from llama4sdk.catalog.endpoint_tables import Dollars
from llama4sdk.endpoint import Endpoint
from llama4sdk.plan import Preference
from llama4sdk.planning.routing import RequestProfile, RoutingRule

#: US dollars for a million tokens of prompt, and of answer.
Rates: TypeAlias = tuple[Dollars, Dollars]


class Place(Value):
    """A backend to ask when the client's own fails, with its model and endpoint."""

    backend: str
    #: ``None`` asks for the client's own.
    model: str | None = None
    #: Where its server is, with what key; the client's own address and key are never used for another backend.
    endpoint: Endpoint | None = None


class Policy(Value):
    """Limits on what is chosen. The default keeps every prompt on this machine."""

    #: Let prompts leave the machine when nothing local fits. Naming a remote backend allows that one as well.
    allow_remote: bool = False
    #: Fall back to the small demo model when no Llama 4 fits and no model was named.
    allow_demo: bool = True
    #: The preference among several possible plans.
    prefer: Preference = "balanced"
    #: Backends, or pairs of backend and model, to ask in this order when the first fails before it has begun to
    #: answer, with an error that another place may not have. A remote one that is named here is allowed.
    fallback: tuple[str | tuple[str, str] | Place, ...] = ()
    #: Choose a model for each request: Scout or Maverick by the rule of ``planning.routing``, or by one's own function,
    #: which gives a model's name.
    route: Literal["hybrid"] | RoutingRule | Callable[[RequestProfile], str] | None = Field(default=None, exclude=True)
    #: US dollars a client may spend. What could cost more than is left is refused before it is sent.
    max_cost: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    #: Prices by backend, where they differ from the published ones; ``(0, 0)`` for a server of one's own.
    rates: dict[str, Rates] = Field(default_factory=dict)

    @property
    def places(self) -> tuple[Place, ...]:
        """The fallbacks, however they were written."""
        return tuple(map(_as_place, self.fallback))


def _as_place(fallback: str | tuple[str, str] | Place) -> Place:
    if isinstance(fallback, Place):
        return fallback
    backend, model = (fallback, None) if isinstance(fallback, str) else fallback
    return Place(backend=backend, model=model)
