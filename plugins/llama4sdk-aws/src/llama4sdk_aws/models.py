"""What is known of models on Bedrock, and how each is addressed from a region. Pure."""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from llama4sdk.catalog import endpoints

__all__ = ["LLAMA4_REGIONS", "Family", "Known", "address", "base_id", "family", "geography", "is_id", "known"]

LLAMA4_REGIONS: Final = ("us-east-1", "us-east-2", "us-west-1", "us-west-2")
"""From which Llama 4 is asked; checked on 2026-11-21."""

GEOGRAPHIES: Final = {"us-gov-": "us-gov", "us-": "us", "eu-": "eu", "ap-": "apac"}
"""Prefixes of inference profiles, by the first letters of the region."""

PREFIX: Final = re.compile(r"^(us-gov|us|eu|apac|jp|au|global)\.")
ID: Final = re.compile(
    r"^((us-gov|us|eu|apac|jp|au|global)\.)?[a-z0-9-]{1,63}\.[a-z0-9-]{1,63}[a-z0-9.:-]{0,100}$"
    r"|^arn:aws[a-z-]*:(bedrock|sagemaker):[a-z0-9-]{0,32}:[0-9]{0,12}:[a-z-]+/[\w.:/-]{1,256}$",
)

Family: TypeAlias = Literal["llama", "titan", "cohere", "other"]
"""Titan's and Cohere's embed; the others answer."""


class Known(NamedTuple):
    """What the registry has of one model."""

    id: str | None
    """What is sent, before it is addressed; ``None`` for a model that Bedrock does not have."""
    context: int | None
    output: int | None
    """Tokens an answer may have at most."""


def known(model: str) -> Known:
    """Of a catalogue name, the id and limits on Bedrock; anything else is its own id, with limits if it is listed."""
    listing = endpoints.find("bedrock", base_id(model))
    limits = (listing.context, listing.max_output) if listing else (None, None)
    return Known(endpoints.id_for("bedrock", model), *limits)


def is_id(model: str | None) -> bool:
    """Whether Bedrock could have a model of this name: an id, an inference profile's, or an ARN."""
    return model is not None and ID.fullmatch(model) is not None


def base_id(model: str) -> str:
    """Without the geography of an inference profile, and out of an ARN that names a model."""
    if model.startswith("arn:"):
        kind, _, name = model.split(":", 5)[5].partition("/")
        return PREFIX.sub("", name) if kind in ("foundation-model", "inference-profile") else model
    return PREFIX.sub("", model)


def family(model: str) -> Family:
    """Whose request format it has."""
    if "titan-embed" in model:
        return "titan"
    if "cohere.embed" in model:
        return "cohere"
    return "llama" if "meta.llama" in model else "other"


def geography(region: str) -> str | None:
    """The prefix of inference profiles in this region, where there is one."""
    return next((prefix for start, prefix in GEOGRAPHIES.items() if region.startswith(start)), None)


def address(model: str, region: str) -> str:
    """The id to send: Llama 4's base ids are reached through an inference profile only."""
    if model.startswith("meta.llama4-") and region in LLAMA4_REGIONS:
        return f"us.{model}"
    return model
