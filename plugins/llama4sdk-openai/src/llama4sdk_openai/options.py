"""The ``Endpoint.options`` of these backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError
from llama4sdk.remote.endpoint_options import parse_endpoint_options
from llama4sdk_openai.profiles import COMMON_OPTIONS, Profile

Identifier = Annotated[str, Field(pattern=r"^[\w.:@/-]+$")]

#: Fields of a request that only the SDK sets.
RESERVED_FIELDS: Final = frozenset({"model", "messages", "prompt", "stream", "input"})


class Options(Value):
    """All options; a profile names those that its backend takes."""

    #: Tokens the model there accepts, where neither the SDK nor the server says.
    context_length: Annotated[int, Field(ge=1)] | None = None
    #: Fields sent with every chat and completion as they are.
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    #: Whether calls that the server left in the text, as Llama 4 writes them, become tool calls.
    rescue: bool = False
    api_version: Identifier = "2024-05-01-preview"
    auth: Literal["api-key", "bearer"] | None = None
    project: Identifier | None = None
    location: Identifier | None = None
    quota_project: Identifier | None = None
    provider: Identifier | dict[str, JsonValue] | None = None
    bill_to: Identifier | None = None


def parse_options(profile: Profile, values: Mapping[str, JsonValue]) -> Options:
    """Validate options. Raises UnknownOptionError for one that the backend does not take, else ConfigurationError."""
    names = (*COMMON_OPTIONS, *profile.options)
    options = parse_endpoint_options(Options, values, backend=profile.name, names=names, manual="docs/remote.md")
    if reserved := sorted(RESERVED_FIELDS.intersection(options.extra_body)):
        raise ConfigurationError(
            f"extra_body may not set {', '.join(reserved)}.",
            hint="Only what the SDK does not send itself belongs there.",
        )
    return options
