"""An engine's capabilities, declared as data so that everything else is refused before any work."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, field_serializer

from llama4sdk._values import Value
from llama4sdk.requests import SamplingParams

__all__ = ["ALL_SAMPLING_OPTIONS", "Capabilities", "Feature"]

Feature: TypeAlias = Literal[
    "generate",
    "chat",
    "embed",
    "images",
    "tools",
    "tool_choice",
    "json_schema",
    "regex",
    "grammar",
    "count_tokens",
    "score",
    "astream",
]

ALL_SAMPLING_OPTIONS: Final = frozenset(SamplingParams.model_fields)


def _known(options: frozenset[str]) -> frozenset[str]:
    if unknown := options - ALL_SAMPLING_OPTIONS:
        raise ValueError(f"there is no sampling option {', '.join(sorted(unknown))}")
    return options


class Capabilities(Value):
    """The features and options of an engine. Everything not named is refused."""

    features: frozenset[Feature] = frozenset({"generate", "chat"})
    #: The ``SamplingParams`` fields that are honoured.
    sampling: Annotated[frozenset[str], AfterValidator(_known)] = ALL_SAMPLING_OPTIONS
    #: Whether prompts leave the machine.
    remote: bool = False

    def of_model(self, *, chat: bool, tools: bool, images: bool) -> Capabilities:
        """These capabilities, less those that a model lacks. Images and tools are part of a chat."""
        calls = chat and tools
        able: dict[Feature, bool] = {"chat": chat, "tools": calls, "tool_choice": calls, "images": chat and images}
        lacking = {feature for feature, supported in able.items() if not supported}
        return self.model_copy(update={"features": self.features - lacking})

    @field_serializer("features", "sampling", when_used="json")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        """A set has no order of its own; the same value must give the same JSON."""
        return sorted(names)
