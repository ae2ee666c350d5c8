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
from llama4sdk.remote.endpoint_options import parse_endpoint_options
from llama4sdk_aws import BEDROCK, models
from llama4sdk_aws.client import make_authorizer, resolve_target
from llama4sdk_aws.environment import Service
from llama4sdk_aws.models import LLAMA4_REGIONS
from llama4sdk_aws.options import BedrockOptions

HOSTNAME: Final = "bedrock-runtime{fips}.{region}"
SERVICE: Final = Service("bedrock", "BEDROCK_RUNTIME", HOSTNAME, HOSTNAME, takes_api_keys=True)
DEFAULT_MODEL: Final = "scout"

#: Tokens that are assumed for a model that is not listed.
ASSUMED_CONTEXT_LENGTH: Final = 8192


class BedrockBackend(Backend):
    """Scout and Maverick by their names, any other model by its id, inference profile or ARN."""

    name: ClassVar[str] = "bedrock"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """Offer a model where a region and credentials are configured. Opens no connection."""
        if need.device is not None or need.quantization is not None:
            return Unavailable(reason="AWS decides on the devices and the quantization of its models.")
        name = need.model or DEFAULT_MODEL
        if (retirement := endpoints.find_retirement(self.name, name)) is not None:
            return retirement
        model = models.find_model(name)
        if model.id is None or not models.is_model_id(model.id):
            return Unavailable(
                reason=f"Bedrock has no model '{name}'.",
                fix="Choose 'scout' or 'maverick', or pass the id, inference profile or ARN of a model on Bedrock.",
            )
        context_length = need.context_length or model.context_length or ASSUMED_CONTEXT_LENGTH
        if model.context_length is not None and context_length > model.context_length:
            return Unavailable(
                reason=f"there its context is {model.context_length} tokens; {context_length} were asked for."
            )
        endpoint = need.endpoint or Endpoint()
        try:
            target = resolve_target(SERVICE, endpoint, _options(endpoint))
        except ConfigurationError as error:
            return Unavailable(reason=error.message, fix=error.hint)
        if isinstance(target, Unavailable):
            return target
        is_llama4 = "meta.llama4-" in model.id and not model.id.startswith("arn:")
        if is_llama4 and target.region not in LLAMA4_REGIONS:
            return Unavailable(
                reason=f"Bedrock has Llama 4 in no other regions than {', '.join(LLAMA4_REGIONS)}; "
                f"the region is {target.region}.",
                fix="Set AWS_REGION to one of them, or pass Endpoint(options={'region': ...}).",
            )
        invocation_id = models.invocation_id(model.id, target.region)
        credentials = "with an API key" if target.uses_api_key else "signed"
        return Offer(
            model=name,
            placement=Placement(kind="remote", devices=(self.name,)),
            context_length=context_length,
            capabilities=_capabilities(model.id),
            reason=f"asked as {invocation_id} in {target.region}, {credentials}",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """Return the engine, by the settings of the environment. Opens no connection."""
        return self.connect(plan, Need())

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """Return the engine, with the caller's endpoint. Raises ConfigurationError where something is missing."""
        from llama4sdk_aws.bedrock_dialect import BedrockDialect, BedrockEngine

        endpoint = need.endpoint or Endpoint()
        options = _options(endpoint)
        target = resolve_target(SERVICE, endpoint, options)
        if isinstance(target, Unavailable):
            raise ConfigurationError(f"Bedrock cannot be asked: {target.reason}", hint=target.fix)
        authorizer = make_authorizer(SERVICE, self.name, target, endpoint, options)
        return BedrockEngine(
            model=plan.model,
            context_length=plan.context_length,
            dialect=BedrockDialect(target, plan, authorizer, endpoint, options),
            endpoint=endpoint,
            cost=endpoints.pricing(self.name, models.base_id(plan.model)),
        )


def _options(endpoint: Endpoint) -> BedrockOptions:
    return parse_endpoint_options(BedrockOptions, endpoint.options, backend="bedrock", manual="docs/aws.md")


def _capabilities(model: str) -> Capabilities:
    """Return those of one model: only Llama takes raw prompts, and embedding models do nothing else."""
    family = models.model_family(model)
    if family in ("titan", "cohere"):
        return BEDROCK.model_copy(update={"features": frozenset({"embed"}), "sampling": frozenset()})
    features = BEDROCK.features - {"embed"}
    return BEDROCK.model_copy(update={"features": features if family == "llama" else features - {"generate"}})
