"""What a profile can offer for a need, and the engine made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from llama4sdk.backend import Backend, Capabilities, Engine, Feature, Need, Offer, Unavailable
from llama4sdk.catalog import endpoints, models
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, ConfigurationError, Llama4Error
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.remote.redaction import conceal
from llama4sdk.remote.retired import gone
from llama4sdk_openai.credentials import Access, access
from llama4sdk_openai.discovery import Discoveries, Served
from llama4sdk_openai.options import Options, options
from llama4sdk_openai.profiles import Profile, profile

if TYPE_CHECKING:
    from llama4sdk.catalog.endpoint_tables import Listing

__all__ = ["ASSUMED_CONTEXT", "OpenAIProtocolBackend", "Place", "served_id"]

ASSUMED_CONTEXT = 131_072
"""What is planned with where nobody says how much an endpoint accepts; the endpoint itself refuses what is too long."""


class Place(NamedTuple):
    """One model at one endpoint. ``context`` is ``None`` where nobody says how much it accepts."""

    id: str
    context: int | None
    said_by: str
    """Who says so, as a reason: "the server says"."""
    access: Access
    options: Options
    listing: Listing | None
    lacks: frozenset[str] = frozenset()


def served_id(backend: str, model: str) -> str | None:
    """What this endpoint calls a model of ours; other names pass, ``None`` for one that nobody knows there."""
    return endpoints.id_for(backend, model)


class OpenAIProtocolBackend(Backend):
    """One profile. Subclasses only have its name."""

    def __init__(self) -> None:
        self._discoveries = Discoveries()

    @property
    def profile(self) -> Profile:
        """What makes this endpoint different from others."""
        return profile(self.name)

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """The endpoint's model; what only runs on devices is refused. Asks servers of one's own what they serve."""
        if need.device is not None:
            return Unavailable(reason=f"it runs elsewhere, not on '{need.device}'.", fix="Leave device= out.")
        if need.quantization is not None:
            return Unavailable(
                reason=f"how weights are held there is not for us to choose; {need.quantization} was asked.",
                fix="Leave quantization= out.",
            )
        place = self._place(need.model, need.endpoint or Endpoint())
        if isinstance(place, Unavailable):
            return place
        context = place.context or need.context_length or ASSUMED_CONTEXT
        if need.context_length is not None and context < need.context_length:
            return Unavailable(
                reason=f"it accepts {context} tokens there, {need.context_length} were asked.",
                fix="Ask for a shorter context_length.",
            )
        can = self._capabilities(place)
        if missing := sorted(need.features - can.features):
            return Unavailable(reason=f"'{place.id}' there does not do: {', '.join(missing)}.")
        return Offer(
            model=place.id,
            placement=Placement(kind="remote", devices=(self.name,)),
            context_length=context,
            capabilities=can,
            reason=f"{place.said_by} it accepts {context} tokens"
            if place.context
            else f"nobody says how much it accepts, so {context} tokens are assumed and the endpoint has the last word",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """The engine, with the key and address that the environment names."""
        return self.connect(plan, Need(), progress=progress)

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """The engine; nothing is sent yet. Raises ConfigurationError where the key or the address is gone."""
        from llama4sdk.remote.engine import RemoteEngine
        from llama4sdk_openai.dialect import OpenAIDialect

        endpoint = need.endpoint or Endpoint()
        chosen = options(self.profile, endpoint.options)
        reached = access(self.profile, endpoint, chosen)
        if isinstance(reached, Unavailable):
            raise ConfigurationError(f"Backend '{self.name}' cannot be used: {reached.reason}", hint=reached.fix)
        listing = endpoints.find(self.name, plan.model)
        dialect = OpenAIDialect(self.profile, plan.model, plan.context_length, reached, chosen, listing)
        return RemoteEngine(
            model=plan.model,
            context_length=plan.context_length,
            dialect=dialect,
            endpoint=endpoint,
            cost=endpoints.pricing(self.name, plan.model),
        )

    def _place(self, model: str | None, endpoint: Endpoint) -> Place | Unavailable:
        chosen = options(self.profile, endpoint.options)
        if model is not None and (retired := gone(self.name, model)):  # no key would help
            return retired
        reached = access(self.profile, endpoint, chosen)
        if isinstance(reached, Unavailable):
            return reached
        if refused := self._refused(model, reached):
            return refused
        if self.profile.own:
            return self._own(model, reached, chosen, endpoint)
        if model is None:
            return Unavailable(reason="it serves many models, and none was named.", fix="Name one, such as 'scout'.")
        name = served_id(self.name, model)
        if name is None:
            fix = "Pass the name it has there, or a repository's, as model=."
            return Unavailable(reason=f"nobody has said what it calls '{model}'.", fix=fix)
        listing = endpoints.find(self.name, name)
        if isinstance(chosen.provider, str):
            name = f"{name.partition(':')[0]}:{chosen.provider}"
        context = chosen.context_length or (listing.context if listing else None)
        by = "you say" if chosen.context_length else f"as looked up on {listing.checked}," if listing else ""
        return Place(name, context, by, reached, chosen, listing)

    def _refused(self, model: str | None, reached: Access) -> Unavailable | None:
        """OpenAI itself, which serves no Llama: asking would only hand it the prompt and the key's owner a bill."""
        host = urlsplit(reached.base).hostname or ""
        of_ours = model is None or models.find(model) is not None or "llama" in model.lower()
        if host.endswith("api.openai.com") and of_ours:
            return Unavailable(
                reason="api.openai.com serves no Llama models.",
                fix=f"Pass the address of an endpoint that does; {endpoints.alternatives('scout')}",
            )
        return None

    def _own(self, model: str | None, reached: Access, chosen: Options, endpoint: Endpoint) -> Place | Unavailable:
        try:
            found = self._discoveries.ask(self.profile, reached, endpoint)
        except APIError as error:
            conceal(error, reached.secrets)
            asked = error.status is not None and error.status < 500
            fix = error.hint if asked else f"Start it: {self.profile.start}; or pass its address as endpoint=."
            return Unavailable(reason=error.message, fix=fix)
        except Llama4Error as error:
            conceal(error, reached.secrets)
            return Unavailable(reason=error.message, fix=error.hint)
        name = _choose(model, found)
        if name is None:
            return Unavailable(
                reason=f"the server at {reached.base} has no model '{model}'." if model else "no model was named.",
                fix=f"Pass model= as the server names it: {', '.join(found.names) or 'it has none'}.",
            )
        context = chosen.context_length or found.names[name]
        by = "you say" if chosen.context_length else "the server says"
        return Place(name, context, by, reached, chosen, None, found.lacks)

    def _capabilities(self, place: Place) -> Capabilities:
        lacks: set[str] = set(place.lacks)
        if place.listing is not None:
            lacks |= place.listing.lacks
        best = self.profile.capabilities
        kept: frozenset[Feature] = frozenset(feature for feature in best.features if feature not in lacks)
        return best.model_copy(update={"features": kept})


def _choose(model: str | None, found: Served) -> str | None:
    """The server's own name for a model: as it is, or one that has ours in its name; without one, its only model."""
    if model in found.names:
        return model
    if model is None:
        return next(iter(found.names)) if len(found.names) == 1 else None
    spec = models.find(model)
    return next((name for name in found.names if spec and spec.name in name.lower()), None)
