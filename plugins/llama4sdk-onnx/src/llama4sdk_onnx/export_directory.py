"""An opened export directory: the facts of its model, its tokenizer and its prompt format."""

from __future__ import annotations

from pathlib import Path

from llama4sdk.progress import Progress
from llama4sdk.weights.checkpoint import GenerationDefaults
from llama4sdk.weights.formats.tokenizer_files import TokenizerFiles
from llama4sdk_onnx.manifest import GRAPH, VISION_GRAPH, read_manifest, verify_files


class Export(TokenizerFiles):
    """A ``TextSource``, with the manifest's facts. Raises CheckpointError when there is no whole export at ``path``.

    Only the manifest is read at first; ``verify`` reads every file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = read_manifest(path)
        self.name = self.manifest.model
        self.config = self.manifest.config
        self.vision = self.manifest.vision
        self.stop_ids = frozenset(self.manifest.stop_ids)
        self.generation_defaults = GenerationDefaults(temperature=self.manifest.temperature, top_p=self.manifest.top_p)

    @property
    def graph(self) -> Path:
        """The text graph."""
        return self.path / GRAPH

    @property
    def vision_graph(self) -> Path | None:
        """The vision graph; ``None`` for a network that does not see."""
        return self.path / VISION_GRAPH if VISION_GRAPH in self.manifest.files else None

    def verify(self, progress: Progress | None = None) -> None:
        """Check every file; see ``verify_files``."""
        verify_files(self.path, self.manifest, progress)
