"""Matches the SDK's names of models to those of Ollama's library and of one server. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from llama4sdk.catalog import models as catalog
from llama4sdk_ollama.server import ServerModel

#: Names in Ollama's library.
LIBRARY_TAGS: Final = {catalog.SCOUT.name: "llama4:scout", catalog.MAVERICK.name: "llama4:maverick"}

#: Words in a tag that tell Scout and Maverick apart.
TAG_WORDS: Final = {catalog.SCOUT.name: ("scout", "16x17b"), catalog.MAVERICK.name: ("maverick", "128x17b")}

#: Between the parameters of Scout (109 billion) and of Maverick (400 billion).
MAX_SCOUT_BILLIONS: Final = 200.0


def library_tag(model: str) -> str:
    """Return the name of a model in Ollama's library; names that the SDK does not know are returned unchanged."""
    spec = catalog.find(model)
    return LIBRARY_TAGS.get(spec.name, model) if spec else model


def pull_hint(tag: str) -> str:
    """Return the advice to download a model."""
    return f"Run 'ollama pull {tag}', or llama4sdk_ollama.pull({tag!r})."


def find_model(name: str, models: Sequence[ServerModel]) -> ServerModel | None:
    """Return the model of this name: the SDK's, or the server's with or without ``:latest``."""
    names = {name.lower(), library_tag(name).lower()}
    names |= {f"{tag}:latest" for tag in names if ":" not in tag}
    exact = next((model for model in models if model.name.lower() in names), None)
    spec = catalog.find(name)
    if exact or spec is None or spec.name not in LIBRARY_TAGS:
        return exact
    return next((model for model in models if _llama4_variant(model) == spec.name), None)


def _llama4_variant(model: ServerModel) -> str | None:
    """Return which Llama 4 a model is, by its family and its name, or its size; ``None`` for any other model."""
    name = model.name.lower()
    if "llama4" not in (model.family, name.split(":")[0].split("/")[-1]) and not re.search(r"llama-?4", name):
        return None
    for variant, words in TAG_WORDS.items():
        if any(word in name for word in words):
            return variant
    billions = re.fullmatch(r"([\d.]+)B", model.parameter_size)
    if billions is None:
        return None
    return catalog.SCOUT.name if float(billions[1]) < MAX_SCOUT_BILLIONS else catalog.MAVERICK.name
