"""An export directory that was opened: what is known of the model in it beside its graphs."""

from __future__ import annotations

from pathlib import Path

from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.progress import Progress
from llama4sdk.weights.checkpoint import GenerationDefaults
from llama4sdk.weights.formats.tokenizer_files import has_llama4_tokenizer, read_chat_template, read_tokenizer
from llama4sdk_onnx.manifest import GRAPH, VISION_GRAPH, read_manifest, verify_files

__all__ = ["Export"]


class Export:
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

    @property
    def weight_bytes(self) -> int:
        """What all weights take in the files."""
        files = self.manifest.files.items()
        return sum(record.size for name, record in files if name.startswith("weights/"))

    def verify(self, progress: Progress | None = None) -> None:
        """What ``verify_files`` does."""
        verify_files(self.path, self.manifest, progress)

    def tokenizer(self) -> Tokenizer:
        """The exported tokenizer, which takes seconds."""
        return read_tokenizer(self.path)

    def chat_template(self) -> ChatTemplate | None:
        """The exported chat template; ``None`` when there was none."""
        return read_chat_template(self.path)

    @property
    def has_llama4_vocabulary(self) -> bool:
        """Looked up without building the tokenizer."""
        return has_llama4_tokenizer(self.path)

    def prompt_format(self) -> ChatTemplate | Llama4Prompt | None:
        """How a conversation is written: the template, or else Llama 4's own way where the vocabulary is."""
        return self.chat_template() or (Llama4Prompt() if self.has_llama4_vocabulary else None)

    @property
    def calls_tools(self) -> bool:
        """Whether tools can be described to it in its prompts, and its calls be read from its answers."""
        template = self.chat_template()
        return self.has_llama4_vocabulary and (template is None or template.takes_tools)
