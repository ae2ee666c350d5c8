"""The backend ``sagemaker``: an endpoint of one's own, whose container speaks LMI's or TGI's dialect."""

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
from llama4sdk_aws import SAGEMAKER, options
from llama4sdk_aws.client import Place, authority, find_place
from llama4sdk_aws.container_requests import SAMPLING
from llama4sdk_aws.environment import Service
from llama4sdk_aws.options import SageMakerOptions

__all__ = ["SageMakerBackend"]

SERVICE: Final = Service(
    "sagemaker",
    "SAGEMAKER_RUNTIME",
    "runtime{fips}.sagemaker.{region}",
    "runtime.sagemaker{fips}.{region}",
    always_fips="us-gov-west-1",
)
NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
UNKNOWN_CONTEXT: Final = 8192
"""Tokens that are taken for granted: a container does not say how many it was started with."""


class SageMakerBackend(Backend):
    """``model`` is the endpoint's name, unless the option ``endpoint_name`` is."""

    name: ClassVar[str] = "sagemaker"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """An offer where the endpoint's name, a region and credentials are in sight. Opens no connection."""
        if need.device is not None or need.quantization is not None:
            return Unavailable(reason="where and in how many bits the endpoint runs its model was chosen with it.")
        endpoint = need.endpoint or Endpoint()
        try:
            chosen = _options(endpoint)
            place = find_place(SERVICE, endpoint, chosen, keys=False)
        except ConfigurationError as error:
            return Unavailable(reason=error.message, fix=error.hint)
        target = chosen.endpoint_name or need.model
        if target is None or (chosen.endpoint_name is None and models.find(target)) or not NAME.fullmatch(target):
            return Unavailable(
                reason="it is not known which SageMaker endpoint to ask."
                if target is None or models.find(target)
                else f"SageMaker has no endpoint of the name '{target}'.",
                fix="Pass the endpoint's name as the model, or Endpoint(options={'endpoint_name': ...}).",
            )
        if isinstance(place, Unavailable):
            return place
        return Offer(
            model=need.model or target,
            placement=Placement(kind="remote", devices=(self.name,)),
            context_length=need.context_length or UNKNOWN_CONTEXT,
            capabilities=_capabilities(chosen),
            reason=f"the endpoint {target} in {place.region}, spoken to as {chosen.dialect.upper()}",
        )

    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """The engine, with what the environment says. Connects to nothing."""
        return self.connect(plan, Need())

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """The engine, with the caller's endpoint. Raises ConfigurationError where something is missing by now."""
        from llama4sdk.remote.engine import RemoteEngine
        from llama4sdk_aws.endpoint_dialect import SageMakerDialect

        endpoint = need.endpoint or Endpoint()
        chosen = _options(endpoint)
        place = find_place(SERVICE, endpoint, chosen, keys=False)
        if not isinstance(place, Place):
            raise ConfigurationError(f"SageMaker cannot be asked: {place.reason}", hint=place.fix)
        who = authority(SERVICE, self.name, place, endpoint, chosen)
        dialect = SageMakerDialect(place.url, plan.model, plan.context_length, who, endpoint, chosen)
        return RemoteEngine(model=plan.model, context_length=plan.context_length, dialect=dialect, endpoint=endpoint)


def _options(endpoint: Endpoint) -> SageMakerOptions:
    return options.read(SageMakerOptions, endpoint.options, "sagemaker")


def _capabilities(chosen: SageMakerOptions) -> Capabilities:
    """TGI takes either messages or prompts, as its container was started."""
    features = SAGEMAKER.features
    if chosen.dialect == "tgi":
        features -= {"generate"} if chosen.messages_api else {"chat", "images", "tools"}
    return SAGEMAKER.model_copy(update={"features": features, "sampling": SAMPLING[chosen.dialect]})
