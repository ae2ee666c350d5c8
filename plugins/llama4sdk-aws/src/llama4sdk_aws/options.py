"""The ``Endpoint.options`` of these backends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator


class AwsOptions(BaseModel):
    """Region, address and credentials."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    #: A profile of ``~/.aws/config``; counts more than keys in the environment.
    profile: str | None = None
    fips: bool | None = None
    #: Whether to use addresses that take IPv6 too.
    dualstack: bool | None = None


class BedrockOptions(AwsOptions):
    """Guardrails, tiers, logs and the form of embeddings."""

    guardrail_id: str | None = None
    guardrail_version: str = "DRAFT"
    trace: Literal["enabled", "disabled", "enabled_full"] | None = None
    #: ``async`` passes text on before it is checked.
    guardrail_stream: Literal["sync", "async"] | None = None
    latency: Literal["standard", "optimized"] | None = None
    service_tier: Literal["priority", "default", "flex", "reserved"] | None = None
    #: Written into the invocation log.
    request_metadata: Annotated[dict[str, str], Field(max_length=16)] = {}
    #: Sent as ``additionalModelRequestFields``.
    additional_fields: dict[str, JsonValue] = {}
    #: Dimensions of vectors, where the model has a choice.
    dimensions: int | None = None
    #: The use of Cohere's embeddings.
    input_type: Literal["search_document", "search_query", "classification", "clustering"] = "search_document"

    @model_validator(mode="after")
    def _check_guardrail(self) -> BedrockOptions:
        if self.guardrail_id is None and (self.trace or self.guardrail_stream):
            raise ValueError("trace and guardrail_stream need a guardrail_id")
        return self


class SageMakerOptions(AwsOptions):
    """The container of an endpoint, and the part of the endpoint to ask."""

    #: The endpoint's name, where ``model`` is another.
    endpoint_name: str | None = None
    dialect: Literal["lmi", "tgi"] = "lmi"
    #: Whether a TGI container was started with ``MESSAGES_API_ENABLED``.
    messages_api: bool = True
    inference_component: str | None = None
    target_variant: str | None = None
    target_model: str | None = None
    custom_attributes: str | None = None
    session_id: str | None = None
