"""The backend ``bedrock``. Making an offer reads variables and small files; only an engine loads botocore."""

from __future__ import annotations

from typing import ClassVar, Final

from llama4sdk.backend import Backend, Capabilities, Engine, Need, Offer, Unavailable
from llama4sdk.catalog import endpoints
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.remote.retired import gone
from llama4sdk_aws import BEDROCK, models, options
from llama4sdk_aws.client import Place, authority, find_place
from llama4sdk_aws.environment import Service
from llama4sdk_aws.options import BedrockOptions

__all__ = ["BedrockBackend"]

SERVICE: Final = Service("bedrock", "BEDROCK_RUNTIME", *["bedrock-runtime{fips}.{region}"] * 2)
DEFAULT: Final = "scout"
UNKNOWN_CONTEXT: Final = 8192
"""Tokens that are taken for granted of a model that nothing is known of."""


class BedrockBackend(Backend):
    """Scout and Maverick by their names, any other model by its id, inference profile or ARN."""

    name: ClassVar[str] = "bedrock"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """An offer where a region and credentials are in sight. Opens no connection."""
        if need.device is not None or need.quantization is not None:
            return Unavailable(reason="where and in how many bits AWS runs a model is not for us to choose.")
        model = need.model or DEFAULT
        if (ended := gone(self.name, model)) is not None:
            return ended
        found = models.known(model)
        if found.id is None or not models.is_id(found.id):
            return Unavailable(
                reason=f"Bedrock has no model '{model}'.",
                fix="Choose 'scout' or 'maverick', or pass the id, inference profile or ARN of a model on Bedrock.",
            )
        context = need.context_length or found.context or UNKNOWN_CONTEXT
        if found.context is not None and context > found.context:
            return Unavailable(reason=f"there its context is {found.context} tokens; {context} were asked for.")
        endpoint = need.endpoint or Endpoint()
        try:
            place = find_place(SERVICE, endpoint, _options(endpoint), keys=True)
        except ConfigurationError as error:
            return Unavailable(reason=error.message, fix=error.hint)
        if isinstance(place, Unavailable):
            return place
        if _is_llama4(found.id) and place.region not in models.LLAMA4_REGIONS:
            return Unavailable(
                reason=f"Bedrock has Llama 4 in no other regions than {', '.join(models.LLAMA4_REGIONS)}; "
                f"the region is {place.region}.",
                fix="Set AWS_REGION to one of them, or pass Endpoint(options={'region': ...}).",
            )
        name = models.address(found.id, place.region)
        return Offer(
            model=model,
            placement=Placement(kind="remote", devices=(self.name,)),
            context_length=context,
            capabilities=_capabilities(found.id),
            reason=f"asked as {name} in {place.region}, {'with an API key' if place.bearer else 'signed'}",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """The engine, with what the environment says. Connects to nothing."""
        return self.connect(plan, Need())

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """The engine, with the caller's endpoint. Raises ConfigurationError where something is missing by now."""
        from llama4sdk_aws.dialect import BedrockDialect, BedrockEngine

        endpoint = need.endpoint or Endpoint()
        chosen = _options(endpoint)
        place = find_place(SERVICE, endpoint, chosen, keys=True)
        if not isinstance(place, Place):
            raise ConfigurationError(f"Bedrock cannot be asked: {place.reason}", hint=place.fix)
        who = authority(SERVICE, self.name, place, endpoint, chosen)
        dialect = BedrockDialect(place.url, plan.model, place.region, plan.context_length, who, endpoint, chosen)
        return BedrockEngine(
            model=plan.model,
            context_length=plan.context_length,
            dialect=dialect,
            endpoint=endpoint,
            cost=endpoints.pricing(self.name, models.base_id(plan.model)),
        )


def _options(endpoint: Endpoint) -> BedrockOptions:
    return options.read(BedrockOptions, endpoint.options, "bedrock")


def _is_llama4(model: str) -> bool:
    return "meta.llama4-" in model and not model.startswith("arn:")


def _capabilities(model: str) -> Capabilities:
    """What one model can do there: raw prompts are Llama's, and embedding models do nothing else."""
    family = models.family(model)
    if family in ("titan", "cohere"):
        return BEDROCK.model_copy(update={"features": frozenset({"embed"}), "sampling": frozenset()})
    features = BEDROCK.features - {"embed"}
    return BEDROCK.model_copy(update={"features": features if family == "llama" else features - {"generate"}})
