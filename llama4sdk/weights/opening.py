"""Open a checkpoint of whichever format is at a path."""

from __future__ import annotations

from pathlib import Path

from llama4sdk.errors import CheckpointError, WeightsNotFoundError
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.exports import refuse_export


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Open a GGUF file, a Hugging Face directory or one of Meta's own; reads headers only.

    Raises WeightsNotFoundError when there is nothing at ``path``, CheckpointError when it is damaged, truncated, of an
    unknown format or of another architecture, ModelLoadError when it is an export, which only its own engine can load.
    """
    path = Path(path)
    refuse_export(path)
    if path.is_dir() and (path / "params.json").is_file() and not (path / "config.json").is_file():
        from llama4sdk.weights.formats.meta import MetaCheckpoint

        return MetaCheckpoint(path)
    if path.is_dir():
        from llama4sdk.weights.formats.huggingface import HuggingFaceCheckpoint

        if not (path / "config.json").is_file() and (files := sorted(path.glob("*.gguf"))):
            raise CheckpointError(f"{path} is a directory of GGUF files.", hint=f"Give the file itself: {files[0]}")
        return HuggingFaceCheckpoint(path)
    if not path.is_file():
        raise WeightsNotFoundError(f"There is no checkpoint at {path}.", hint="Give a GGUF file or a directory.")
    from llama4sdk.weights.formats.gguf import GGUFCheckpoint

    return GGUFCheckpoint(path)
