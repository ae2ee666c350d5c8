"""Offers of one profile's endpoint, and its engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from llama4sdk.backend import Backend, Capabilities, Engine, Need, Offer, Unavailable
from llama4sdk.catalog import endpoints, models
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, ConfigurationError, Llama4Error
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.remote.discovery import RecentAnswers
from llama4sdk.remote.redaction import conceal
from llama4sdk_openai.credentials import ResolvedEndpoint, resolve_endpoint
from llama4sdk_openai.discovery import ServerModels, discover_models
from llama4sdk_openai.options import Options, parse_options
from llama4sdk_openai.profiles import Profile, load_profiles

if TYPE_CHECKING:
    from llama4sdk.catalog.endpoint_tables import Listing

#: Tokens that are planned with where nobody says how many an endpoint accepts; it refuses what is too long itself.
ASSUMED_CONTEXT_LENGTH: Final = 131_072

#: Seconds for which a server's answer about its models holds.
DISCOVERY_SECONDS: Final = 5.0


class ServedModel(NamedTuple):
    """One model at one endpoint; ``context_length`` is ``None`` where nobody names it, ``source`` says who does."""

    id: str
    context_length: int | None
    source: str
    lacks: frozenset[str]


class OpenAIProtocolBackend(Backend):
    """The backend of one profile. Subclasses only have its name."""

    def __init__(self) -> None:
        self._servers: RecentAnswers[ServerModels] = RecentAnswers(DISCOVERY_SECONDS)

    @property
    def profile(self) -> Profile:
        """The description of the endpoint."""
        return load_profiles()[self.name]

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """Offer the endpoint's model. Asks self-hosted servers what they serve; sends nothing to others."""
        if need.device is not None:
            return Unavailable(reason=f"it runs elsewhere, not on '{need.device}'.", fix="Leave device= out.")
        if need.quantization is not None:
            return Unavailable(
                reason=f"the endpoint decides how its weights are stored; {need.quantization} cannot be requested.",
                fix="Leave quantization= out.",
            )
        model = self._find_model(need.model, need.endpoint or Endpoint())
        if isinstance(model, Unavailable):
            return model
        context_length = model.context_length or need.context_length or ASSUMED_CONTEXT_LENGTH
        if need.context_length is not None and context_length < need.context_length:
            return Unavailable(
                reason=f"it accepts {context_length} tokens there, {need.context_length} were asked.",
                fix="Ask for a shorter context_length.",
            )
        capabilities = self._capabilities(model)
        if missing := sorted(need.features - capabilities.features):
            return Unavailable(reason=f"'{model.id}' there does not do: {', '.join(missing)}.")
        return Offer(
            model=model.id,
            placement=Placement(kind="remote", devices=(self.name,)),
            context_length=context_length,
            capabilities=capabilities,
            reason=f"{model.source} it accepts {context_length} tokens"
            if model.context_length
            else f"its context length is not known, so {context_length} tokens are assumed",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """Return the engine, with the key and address that the environment names."""
        return self.connect(plan, Need(), progress=progress)

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """Return the engine; nothing is sent yet. Raises ConfigurationError where the key or the address is missing."""
        from llama4sdk.remote.engine import RemoteEngine
        from llama4sdk_openai.dialect import OpenAIDialect

        endpoint = need.endpoint or Endpoint()
        options = parse_options(self.profile, endpoint.options)
        target = resolve_endpoint(self.profile, endpoint, options)
        if isinstance(target, Unavailable):
            raise ConfigurationError(f"Backend '{self.name}' cannot be used: {target.reason}", hint=target.fix)
        listing = endpoints.find(self.name, plan.model)
        return RemoteEngine(
            model=plan.model,
            context_length=plan.context_length,
            dialect=OpenAIDialect(self.profile, plan.model, plan.context_length, target, options, listing),
            endpoint=endpoint,
            cost=endpoints.pricing(self.name, plan.model),
        )

    def _find_model(self, model: str | None, endpoint: Endpoint) -> ServedModel | Unavailable:
        options = parse_options(self.profile, endpoint.options)
        if model is not None and (retirement := endpoints.find_retirement(self.name, model)):  # no key would help
            return retirement
        target = resolve_endpoint(self.profile, endpoint, options)
        if isinstance(target, Unavailable):
            return target
        if refusal := _refuse_openai(model, target):
            return refusal
        if self.profile.self_hosted:
            return self._find_on_server(model, target, options, endpoint)
        if model is None:
            return Unavailable(reason="it serves many models, and none was named.", fix="Name one, such as 'scout'.")
        name = endpoints.id_for(self.name, model)
        if name is None:
            fix = "Pass the name it has there, or a repository's, as model=."
            return Unavailable(reason=f"its name for '{model}' is not known.", fix=fix)
        return _listed_model(name, options, endpoints.find(self.name, name))

    def _find_on_server(
        self, model: str | None, target: ResolvedEndpoint, options: Options, endpoint: Endpoint
    ) -> ServedModel | Unavailable:
        key = (target.base_url, *target.headers.values())
        try:
            server = self._servers.get(key, lambda: discover_models(self.profile, target, endpoint))
        except Llama4Error as error:
            conceal(error, target.secrets)
            fix = error.hint
            if isinstance(error, APIError) and (error.status is None or error.status >= 500):
                fix = f"Start it: {self.profile.start_command}; or pass its address as endpoint=."
            return Unavailable(reason=error.message, fix=fix)
        name = _match_model(model, server)
        if name is None:
            return Unavailable(
                reason=f"the server at {target.base_url} has no model '{model}'." if model else "no model was named.",
                fix=f"Pass model= as the server names it: {', '.join(server.context_lengths) or 'it has none'}.",
            )
        if options.context_length:
            return ServedModel(name, options.context_length, "you say", server.lacks)
        return ServedModel(name, server.context_lengths[name], "the server says", server.lacks)

    def _capabilities(self, model: ServedModel) -> Capabilities:
        capabilities = self.profile.capabilities
        features = frozenset(feature for feature in capabilities.features if feature not in model.lacks)
        return capabilities.model_copy(update={"features": features})


def _refuse_openai(model: str | None, target: ResolvedEndpoint) -> Unavailable | None:
    """Refuse to send a Llama model's prompt to OpenAI itself, which serves none."""
    host = urlsplit(target.base_url).hostname or ""
    is_llama = model is None or models.find(model) is not None or "llama" in model.lower()
    if host.endswith("api.openai.com") and is_llama:
        return Unavailable(
            reason="api.openai.com serves no Llama models.",
            fix=f"Pass the address of an endpoint that does; {endpoints.alternatives('scout')}",
        )
    return None


def _listed_model(name: str, options: Options, listing: Listing | None) -> ServedModel:
    """Return a model of a host, which is not asked; a provider of Hugging Face's router is part of its name."""
    if isinstance(options.provider, str):
        name = f"{name.partition(':')[0]}:{options.provider}"
    lacks = listing.lacks if listing else frozenset()
    if options.context_length:
        return ServedModel(name, options.context_length, "you say", lacks)
    if listing is None:
        return ServedModel(name, None, "", lacks)
    return ServedModel(name, listing.context, f"as looked up on {listing.checked},", lacks)


def _match_model(model: str | None, server: ServerModels) -> str | None:
    """Return the server's name for a model: the same, or one that contains ours; without a name, its only model."""
    names = server.context_lengths
    if model in names:
        return model
    if model is None:
        return next(iter(names)) if len(names) == 1 else None
    spec = models.find(model)
    return next((name for name in names if spec and spec.name in name.lower()), None)
