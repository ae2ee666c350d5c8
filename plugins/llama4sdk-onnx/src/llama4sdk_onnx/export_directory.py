"""An opened export directory: the facts of its model, its tokenizer and its prompt format."""

from __future__ import annotations

from pathlib import Path

from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.progress import Progress
from llama4sdk.weights.checkpoint import GenerationDefaults
from llama4sdk.weights.formats.tokenizer_files import has_llama4_tokenizer, read_chat_template, read_tokenizer
from llama4sdk_onnx.manifest import GRAPH, VISION_GRAPH, read_manifest, verify_files


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
        """Bytes of all weights in the files."""
        files = self.manifest.files.items()
        return sum(record.size for name, record in files if name.startswith("weights/"))

    def verify(self, progress: Progress | None = None) -> None:
        """Check every file; see ``verify_files``."""
        verify_files(self.path, self.manifest, progress)

    def tokenizer(self) -> Tokenizer:
        """The exported tokenizer; building it takes seconds."""
        return read_tokenizer(self.path)

    def chat_template(self) -> ChatTemplate | None:
        """The exported chat template; ``None`` when there was none."""
        return read_chat_template(self.path)

    @property
    def has_llama4_vocabulary(self) -> bool:
        """Whether the tokenizer is Llama 4's, seen without building it."""
        return has_llama4_tokenizer(self.path)

    def prompt_format(self) -> ChatTemplate | Llama4Prompt | None:
        """The format of prompts: the template, or Llama 4's own where the vocabulary is; ``None`` without either."""
        return self.chat_template() or (Llama4Prompt() if self.has_llama4_vocabulary else None)

    @property
    def calls_tools(self) -> bool:
        """Whether its prompts can describe tools, and its calls can be read from its answers."""
        template = self.chat_template()
        return self.has_llama4_vocabulary and (template is None or template.takes_tools)
