"""The models a command is about, with what their files say where they are here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from llama4sdk.capacity.layouts import Model, Stored
    from llama4sdk.catalog.models import ModelSpec
    from llama4sdk.plan import Preference
    from llama4sdk.quantization import ModuleClass
    from llama4sdk.weights.checkpoint import Checkpoint

__all__ = ["subjects"]

SCHEMES: Final = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "I8": "int8", "I4": "int4"}

CLASSES: Final[dict[str, ModuleClass]] = {
    "vision": "vision",
    "embeddings": "embedding",
    "head": "head",
    "norms": "norms",
    "attention": "attention",
    "router": "router",
    "shared experts": "shared_expert",
    "routed experts": "experts",
    "dense layers": "dense",
    "other": "norms",
}

READERS: Final = {"GGUF": ("llama.cpp",), "Hugging Face": ("torch", "vLLM"), "Meta": ("torch",)}
"""The engines that keep a format as it is."""


def subjects(name: str | None, prefer: Preference = "balanced") -> list[Model]:
    """The model of this name, path or repository, or Scout and Maverick in the order they are wanted in.

    None for what is neither known nor here, nor for an export, which one engine alone runs. Of a checkpoint only
    headers are read, or its ``config.json`` alone where no weights are beside it. Raises CheckpointError.
    """
    from llama4sdk import weights
    from llama4sdk.catalog import models
    from llama4sdk.weights.exports import export_format

    if name is None:
        both = [_of_spec(models.SCOUT), _of_spec(models.MAVERICK)]
        return both[::-1] if prefer == "quality" else both
    path = weights.locate(name)
    if path is not None and export_format(path) is not None:
        return []
    if path is not None:
        return [_of_config(name, path) or _of_file(name, path)]
    spec = models.find(name)
    return [] if spec is None or spec.config is None else [_of_spec(spec)]


def _of_spec(spec: ModelSpec) -> Model:
    from llama4sdk.capacity.layouts import Model

    assert spec.config is not None  # noqa: S101 - released
    return Model(name=spec.name, config=spec.config, vision_parameters=spec.vision_parameters)


def _of_config(name: str, path: Path) -> Model | None:
    from llama4sdk.capacity.layouts import Model
    from llama4sdk.weights.config_only import described

    found = described(path)
    return None if found is None else Model(name=name, config=found[0], vision_parameters=found[1])


def _of_file(name: str, path: Path) -> Model:
    from llama4sdk.capacity.layouts import Model
    from llama4sdk.weights.opening import open_checkpoint
    from llama4sdk.weights.tensor_names import vision_parameters

    checkpoint = open_checkpoint(path)
    vision = checkpoint.vision
    return Model(
        name=name,
        config=checkpoint.config,
        vision_parameters=vision_parameters(vision, checkpoint.config.hidden_size) if vision else 0,
        stored=_stored(checkpoint),
    )


def _stored(checkpoint: Checkpoint) -> Stored:
    from llama4sdk.capacity.layouts import Stored
    from llama4sdk.weights.inspection import parts

    sizes: dict[ModuleClass, int] = {}
    for part in parts(checkpoint):
        module = CLASSES[part.module]
        sizes[module] = sizes.get(module, 0) + part.nbytes
    form = SCHEMES.get(checkpoint.dtype, checkpoint.dtype)
    return Stored(form=form, weights=sizes, engines=READERS[checkpoint.format])
