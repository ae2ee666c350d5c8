"""Networks of which nothing is here but their ``config.json``: enough to plan by."""

from __future__ import annotations

from pathlib import Path

from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.exports import refuse_export
from llama4sdk.weights.formats.tokenizer_files import read_json
from llama4sdk.weights.tensor_names import vision_parameters

__all__ = ["described"]


def described(path: Path) -> tuple[TextConfig, int] | None:
    """The text network and the vision network's parameters that a ``config.json`` tells of, given or in a directory.

    ``None`` for anything else, and where weights lie beside it. Raises CheckpointError for a damaged one, and
    ModelLoadError for an export's.
    """
    file = path / "config.json" if path.is_dir() else path
    if file.suffix != ".json" or not file.is_file() or (path.is_dir() and any(path.glob("*.safetensors*"))):
        return None
    refuse_export(path)
    found = read_json(file, needed=True)
    config, vision = TextConfig.from_hf(found), VisionConfig.from_hf(found)
    return config, vision_parameters(vision, config.hidden_size) if vision else 0
