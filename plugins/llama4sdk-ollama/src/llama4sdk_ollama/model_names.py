"""Which of a server's models is meant. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from llama4sdk.catalog import models as catalog
from llama4sdk_ollama.server import Model

__all__ = ["find", "tag_of"]

TAGS: Final = {catalog.SCOUT.name: "llama4:scout", catalog.MAVERICK.name: "llama4:maverick"}
"""What Ollama's library calls them."""

WORDS: Final = {catalog.SCOUT.name: ("scout", "16x17b"), catalog.MAVERICK.name: ("maverick", "128x17b")}
SCOUT_MOST: Final = 200.0
"""Billions of parameters: Scout has 109, Maverick 400."""


def tag_of(model: str) -> str:
    """What Ollama's library calls a model; other names are its own already."""
    spec = catalog.find(model)
    return TAGS.get(spec.name, model) if spec else model


def find(wanted: str, models: Sequence[Model]) -> Model | None:
    """The model of this name: the SDK's, or the server's with or without ``:latest``."""
    named = {wanted.lower(), tag_of(wanted).lower()}
    named |= {f"{name}:latest" for name in named if ":" not in name}
    exact = next((model for model in models if model.name.lower() in named), None)
    spec = catalog.find(wanted)
    if exact or spec is None or spec.name not in TAGS:
        return exact
    return next((model for model in models if _which(model) == spec.name), None)


def _which(model: Model) -> str | None:
    """Which Llama 4 this is, by its family and its name, or its size; ``None`` for any other model."""
    name = model.name.lower()
    if "llama4" not in (model.family, name.split(":")[0].split("/")[-1]) and not re.search(r"llama-?4", name):
        return None
    for which, words in WORDS.items():
        if any(word in name for word in words):
            return which
    billions = re.fullmatch(r"([\d.]+)B", model.parameter_size)
    if billions is None:
        return None
    return catalog.SCOUT.name if float(billions[1]) < SCOUT_MOST else catalog.MAVERICK.name
