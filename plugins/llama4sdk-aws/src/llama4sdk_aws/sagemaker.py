"""The backend ``sagemaker``: an endpoint of the user's, whose container speaks LMI's or TGI's dialect."""

from __future__ import annotations

import re
from typing import ClassVar, Final

from llama4sdk.backend import Backend, Capabilities, Engine, Need, Offer, Unavailable
from llama4sdk.catalog import models
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Plan
from llama4sdk.progress import Progress
from llama4sdk.remote.endpoint_options import parse_endpoint_options
from llama4sdk_aws import SAGEMAKER
from llama4sdk_aws.client import make_authorizer, resolve_target
from llama4sdk_aws.container_requests import SAMPLING_BY_CONTAINER
from llama4sdk_aws.environment import Service
from llama4sdk_aws.options import SageMakerOptions

SERVICE: Final = Service(
    "sagemaker",
    "SAGEMAKER_RUNTIME",
    "runtime{fips}.sagemaker.{region}",
    "runtime.sagemaker{fips}.{region}",
    fips_only_region="us-gov-west-1",
)
ENDPOINT_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")

#: Tokens that are assumed: a container does not say how many it was started with.
ASSUMED_CONTEXT_LENGTH: Final = 8192


class SageMakerBackend(Backend):
    """``model`` is the endpoint's name, unless the option ``endpoint_name`` is."""

    name: ClassVar[str] = "sagemaker"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """Offer an endpoint where its name, a region and credentials are configured. Opens no connection."""
        if need.device is not None or need.quantization is not None:
            return Unavailable(reason="the endpoint's deployment decides on its devices and quantization.")
        endpoint = need.endpoint or Endpoint()
        try:
            options = _options(endpoint)
            target = resolve_target(SERVICE, endpoint, options)
        except ConfigurationError as error:
            return Unavailable(reason=error.message, fix=error.hint)
        name = options.endpoint_name or need.model
        is_model_name = name is None or models.find(name) is not None
        if name is None or (options.endpoint_name is None and is_model_name) or not ENDPOINT_NAME.fullmatch(name):
            return Unavailable(
                reason="it is not known which SageMaker endpoint to ask."
                if is_model_name
                else f"SageMaker has no endpoint of the name '{name}'.",
                fix="Pass the endpoint's name as the model, or Endpoint(options={'endpoint_name': ...}).",
            )
        if isinstance(target, Unavailable):
            return target
        return Offer(
            model=need.model or name,
            placement=Placement(kind="remote", devices=(self.name,)),
            context_length=need.context_length or ASSUMED_CONTEXT_LENGTH,
            capabilities=_capabilities(options),
            reason=f"the endpoint {name} in {target.region}, spoken to as {options.dialect.upper()}",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """Return the engine, by the settings of the environment. Opens no connection."""
        return self.connect(plan, Need())

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """Return the engine, with the caller's endpoint. Raises ConfigurationError where something is missing."""
        from llama4sdk.remote.engine import RemoteEngine
        from llama4sdk_aws.sagemaker_dialect import SageMakerDialect

        endpoint = need.endpoint or Endpoint()
        options = _options(endpoint)
        target = resolve_target(SERVICE, endpoint, options)
        if isinstance(target, Unavailable):
            raise ConfigurationError(f"SageMaker cannot be asked: {target.reason}", hint=target.fix)
        authorizer = make_authorizer(SERVICE, self.name, target, endpoint, options)
        dialect = SageMakerDialect(target, plan, authorizer, endpoint, options)
        return RemoteEngine(model=plan.model, context_length=plan.context_length, dialect=dialect, endpoint=endpoint)


def _options(endpoint: Endpoint) -> SageMakerOptions:
    return parse_endpoint_options(SageMakerOptions, endpoint.options, backend="sagemaker", manual="docs/aws.md")


def _capabilities(options: SageMakerOptions) -> Capabilities:
    """Return those of the container: TGI takes either messages or prompts, as it was started."""
    features = SAGEMAKER.features
    if options.dialect == "tgi":
        features -= {"generate"} if options.messages_api else {"chat", "images", "tools"}
    return SAGEMAKER.model_copy(update={"features": features, "sampling": SAMPLING_BY_CONTAINER[options.dialect]})
