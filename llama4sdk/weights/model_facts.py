"""``ModelFacts`` of what is on this machine: a checkpoint's headers, or a ``config.json`` without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from llama4sdk.capacity.model_facts import ModelFacts, StoredWeights
from llama4sdk.catalog import models
from llama4sdk.catalog.models import LLAMA4_VOCAB_SIZE
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.quantization import ModuleClass, Quantization
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.exports import refuse_export
from llama4sdk.weights.formats.tokenizer_files import read_json
from llama4sdk.weights.inspection import parts
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.quantization_plan import stored_quantization
from llama4sdk.weights.store import locate
from llama4sdk.weights.tensor_names import MODULES, vision_parameters

#: Schemes by the names that checkpoints have for them; formats of GGUF keep their own.
SCHEMES: Final = {"F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "I8": "int8", "I4": "int4"}

#: The full precision in which engines of ours hold weights that are stored so.
FULL_PRECISION: Final = {"F32": Quantization.FP32, "BF16": Quantization.BF16, "F16": Quantization.BF16}

#: The engine profiles that load a kind of checkpoint without converting it.
READERS: Final = {"GGUF": ("llama.cpp",), "Hugging Face": ("torch", "vLLM"), "Meta": ("torch",)}


def find_model_facts(name: str) -> ModelFacts | None:
    """The facts of a name, a path or a repository: of its files where they are here, else of the catalogue.

    ``None`` for what is neither known nor here. Reads headers only. Raises CheckpointError for damaged files, and
    ModelLoadError for files of another kind.
    """
    if (path := locate(name)) is not None:
        return config_facts(name, path) or checkpoint_facts(name, open_checkpoint(path))
    spec = models.find(name)
    return None if spec is None or spec.config is None else ModelFacts.from_spec(spec)


def config_facts(name: str, path: Path) -> ModelFacts | None:
    """The facts of a ``config.json``, given or in a directory, without weights beside it; ``None`` for anything else.

    Raises CheckpointError for a damaged file, and ModelLoadError for an export's.
    """
    file = path / "config.json" if path.is_dir() else path
    if file.suffix != ".json" or not file.is_file() or (path.is_dir() and any(path.glob("*.safetensors*"))):
        return None
    refuse_export(path)
    fields = read_json(file, needed=True)
    config, vision = TextConfig.from_hf(fields), VisionConfig.from_hf(fields)
    return ModelFacts(
        name=name,
        config=config,
        vision_parameters=vision_parameters(vision, config.hidden_size) if vision else 0,
        calls_tools=config.vocab_size == LLAMA4_VOCAB_SIZE,
    )


def checkpoint_facts(name: str, checkpoint: Checkpoint) -> ModelFacts:
    """The facts of a checkpoint that was opened."""
    vision = checkpoint.vision
    full = FULL_PRECISION.get(checkpoint.dtype, Quantization.BF16)
    return ModelFacts(
        name=name,
        config=checkpoint.config,
        vision_parameters=vision_parameters(vision, checkpoint.config.hidden_size) if vision else 0,
        precision=stored_quantization(checkpoint) or full,
        source=checkpoint.path,
        stored=_stored_weights(checkpoint),
        chats=checkpoint.prompt_format() is not None,
        calls_tools=checkpoint.calls_tools,
    )


def _stored_weights(checkpoint: Checkpoint) -> StoredWeights:
    sizes: dict[ModuleClass, int] = {}
    for part in parts(checkpoint):
        module = MODULES[part.module][0]
        sizes[module] = sizes.get(module, 0) + part.nbytes
    form = SCHEMES.get(checkpoint.dtype, checkpoint.dtype)
    return StoredWeights(form=form, class_bytes=sizes, engines=READERS[checkpoint.format])
