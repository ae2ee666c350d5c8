"""Networks known only by a ``config.json``, without weights: enough for planning."""

from __future__ import annotations

from pathlib import Path

from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.exports import refuse_export
from llama4sdk.weights.formats.tokenizer_files import read_json
from llama4sdk.weights.tensor_names import vision_parameters


def read_config(path: Path) -> tuple[TextConfig, int] | None:
    """Read a ``config.json``, given or in a directory: the text network, and the number of vision parameters.

    ``None`` for any other path, and when weights are beside it. Raises CheckpointError for a damaged file, and
    ModelLoadError for an export's.
    """
    file = path / "config.json" if path.is_dir() else path
    if file.suffix != ".json" or not file.is_file() or (path.is_dir() and any(path.glob("*.safetensors*"))):
        return None
    refuse_export(path)
    fields = read_json(file, needed=True)
    config, vision = TextConfig.from_hf(fields), VisionConfig.from_hf(fields)
    return config, vision_parameters(vision, config.hidden_size) if vision else 0
