"""What ``Endpoint(options=...)`` may say to these backends."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from llama4sdk._text import nearest
from llama4sdk.errors import ConfigurationError

__all__ = ["AwsOptions", "BedrockOptions", "SageMakerOptions", "read"]


class AwsOptions(BaseModel):
    """Where to ask, and as whom."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")] | None = None
    profile: str | None = None
    """Of ``~/.aws/config``; counts more than keys in the environment."""
    fips: bool | None = None
    dualstack: bool | None = None
    """Addresses that speak IPv6, too."""


class BedrockOptions(AwsOptions):
    """What Bedrock does besides answering."""

    guardrail_id: str | None = None
    guardrail_version: str = "DRAFT"
    trace: Literal["enabled", "disabled", "enabled_full"] | None = None
    guardrail_stream: Literal["sync", "async"] | None = None
    """``async`` lets text through before it is looked at."""
    latency: Literal["standard", "optimized"] | None = None
    service_tier: Literal["priority", "default", "flex", "reserved"] | None = None
    request_metadata: Annotated[dict[str, str], Field(max_length=16)] = {}
    """Written into the invocation log."""
    additional_fields: dict[str, JsonValue] = {}
    """Sent as ``additionalModelRequestFields``."""
    dimensions: int | None = None
    """Of vectors, where the model has a choice."""
    input_type: Literal["search_document", "search_query", "classification", "clustering"] = "search_document"
    """What Cohere's embeddings are for."""

    @model_validator(mode="after")
    def _whole(self) -> BedrockOptions:
        if self.guardrail_id is None and (self.trace or self.guardrail_stream):
            raise ValueError("trace and guardrail_stream need a guardrail_id")
        return self


class SageMakerOptions(AwsOptions):
    """What runs in the endpoint's container, and which of its parts is meant."""

    endpoint_name: str | None = None
    """Where ``model`` is a name for people."""
    dialect: Literal["lmi", "tgi"] = "lmi"
    messages_api: bool = True
    """Whether a TGI container was started with ``MESSAGES_API_ENABLED``."""
    inference_component: str | None = None
    target_variant: str | None = None
    target_model: str | None = None
    custom_attributes: str | None = None
    session_id: str | None = None


MANUAL: Final = "docs/aws.md has all of them."

Options = TypeVar("Options", bound=AwsOptions)


def read(kind: type[Options], options: dict[str, JsonValue], backend: str) -> Options:
    """Check the options of one backend. Raises ConfigurationError; values are not repeated."""
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            hint = f"{nearest(name, kind.model_fields, 'There are')} Keys belong into api_key."
            raise ConfigurationError(f"'{backend}' has no option '{name}'.", hint=hint) from None
        why = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"The options of '{backend}' are wrong: {name} {why}.", hint=MANUAL) from None
