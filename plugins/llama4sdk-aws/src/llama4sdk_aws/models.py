"""Models on Bedrock: their limits, and the ids to send from a region. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from llama4sdk.catalog import endpoints

#: Regions that serve Llama 4; checked on 2026-11-21.
LLAMA4_REGIONS: Final = ("us-east-1", "us-east-2", "us-west-1", "us-west-2")

#: Prefixes of inference profiles, by the beginning of the region.
PROFILE_PREFIXES: Final = {"us-gov-": "us-gov", "us-": "us", "eu-": "eu", "ap-": "apac"}

PROFILE_PREFIX: Final = re.compile(r"^(us-gov|us|eu|apac|jp|au|global)\.")
MODEL_ID: Final = re.compile(
    r"^((us-gov|us|eu|apac|jp|au|global)\.)?[a-z0-9-]{1,63}\.[a-z0-9-]{1,63}[a-z0-9.:-]{0,100}$"
    r"|^arn:aws[a-z-]*:(bedrock|sagemaker):[a-z0-9-]{0,32}:[0-9]{0,12}:[a-z-]+/[\w.:/-]{1,256}$",
)

#: Models by the form of their requests: Titan and Cohere embed, the others answer.
ModelFamily: TypeAlias = Literal["llama", "titan", "cohere", "other"]


class BedrockModel(NamedTuple):
    """A model's id, ``None`` for one that Bedrock does not have, and its limits in tokens, where they are known."""

    id: str | None
    context_length: int | None
    max_output_tokens: int | None


def find_model(name: str) -> BedrockModel:
    """Return the model of a catalogue name; any other name is its own id, with limits if it is listed."""
    listing = endpoints.find("bedrock", base_id(name))
    limits = (listing.context, listing.max_output) if listing else (None, None)
    return BedrockModel(endpoints.id_for("bedrock", name), *limits)


def is_model_id(model: str | None) -> bool:
    """Whether Bedrock could have a model of this name: an id, an inference profile's, or an ARN."""
    return model is not None and MODEL_ID.fullmatch(model) is not None


def base_id(model: str) -> str:
    """Return the id without an inference profile's prefix, and out of an ARN that names a model."""
    if model.startswith("arn:"):
        kind, _, name = model.split(":", 5)[5].partition("/")
        return PROFILE_PREFIX.sub("", name) if kind in ("foundation-model", "inference-profile") else model
    return PROFILE_PREFIX.sub("", model)


def model_family(model: str) -> ModelFamily:
    """Return the family of an id."""
    if "titan-embed" in model:
        return "titan"
    if "cohere.embed" in model:
        return "cohere"
    return "llama" if "meta.llama" in model else "other"


def profile_prefix(region: str) -> str | None:
    """Return the prefix of inference profiles in a region, where there are any."""
    return next((prefix for start, prefix in PROFILE_PREFIXES.items() if region.startswith(start)), None)


def invocation_id(model: str, region: str) -> str:
    """Return the id to send: Llama 4's base ids are served through an inference profile only."""
    if model.startswith("meta.llama4-") and region in LLAMA4_REGIONS:
        return f"us.{model}"
    return model
