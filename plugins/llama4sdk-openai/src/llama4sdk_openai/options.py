"""What ``Endpoint.options`` may hold for these backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue, ValidationError

from llama4sdk._text import in_words, nearest
from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError, UnknownOptionError
from llama4sdk_openai.profiles import COMMON_OPTIONS, Profile

__all__ = ["Options", "options"]

Word = Annotated[str, Field(pattern=r"^[\w.:@/-]+$")]

OURS: Final = frozenset({"model", "messages", "prompt", "stream", "input"})
"""Fields of a request that nobody else may set."""


class Options(Value):
    """Every option there is; which of them a backend takes stands in its profile."""

    context_length: Annotated[int, Field(ge=1)] | None = None
    """Tokens the model there accepts, where neither the SDK nor the server says."""
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Sent with every chat and completion as it is."""
    rescue: bool = False
    """Whether calls that the server left in the text, as Llama 4 writes them, are made into tool calls."""
    api_version: Word = "2024-05-01-preview"
    auth: Literal["api-key", "bearer"] | None = None
    project: Word | None = None
    location: Word | None = None
    quota_project: Word | None = None
    provider: Word | dict[str, JsonValue] | None = None
    bill_to: Word | None = None


def options(profile: Profile, given: Mapping[str, JsonValue]) -> Options:
    """The options, checked. Raises UnknownOptionError for one that this backend does not take."""
    known = (*COMMON_OPTIONS, *profile.options)
    for name in given:
        if name not in known:
            raise UnknownOptionError(f"'{profile.name}' has no option '{name}'.", hint=nearest(name, known, "Options"))
    try:
        made = Options.model_validate(dict(given))
    except ValidationError as error:
        raise ConfigurationError(
            f"Invalid options for '{profile.name}': {in_words(error)}.", hint="docs/remote.md says what each is."
        ) from error
    if taken := sorted(OURS.intersection(made.extra_body)):
        raise ConfigurationError(
            f"extra_body may not set {', '.join(taken)}.", hint="Only what the SDK does not send itself belongs there."
        )
    return made
