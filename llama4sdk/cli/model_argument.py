"""The models that a command is about, by the ``--model`` option."""

from __future__ import annotations

from pathlib import Path

from llama4sdk import weights
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog.models import MAVERICK, SCOUT
from llama4sdk.errors import WeightsNotFoundError
from llama4sdk.plan import Preference
from llama4sdk.weights.exports import export_format
from llama4sdk.weights.model_facts import find_model_facts


def models_in_question(name: str | None, prefer: Preference = "balanced") -> list[ModelFacts]:
    """The model of this name, path or repository, or Scout and Maverick in the order they are wanted in.

    None for what is neither known nor here, nor for an export, which one engine alone runs. Of a checkpoint only
    headers are read. Raises CheckpointError.
    """
    if name is None:
        order = (MAVERICK, SCOUT) if prefer == "quality" else (SCOUT, MAVERICK)
        return [ModelFacts.from_spec(spec) for spec in order]
    path = weights.locate(name)
    if path is not None and export_format(path) is not None:
        return []
    facts = find_model_facts(name)
    return [] if facts is None else [facts]


def find_checkpoint(model: str) -> Path:
    """The file or directory of a model's weights. Raises WeightsNotFoundError."""
    path = weights.locate(model)
    if path is None:
        raise WeightsNotFoundError(
            f"There is no checkpoint '{model}' on this machine.",
            hint=f"'llama4sdk pull {model}' fetches it or says how; or give a GGUF file or a checkpoint directory.",
        )
    return path
