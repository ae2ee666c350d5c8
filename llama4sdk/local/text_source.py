"""Where an engine has its texts from."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.weights.checkpoint import GenerationDefaults

__all__ = ["TextSource"]


class TextSource(Protocol):
    """What is known of a model beside its weights. A ``Checkpoint`` is one."""

    @property
    def path(self) -> Path:
        """Where it was found, for errors."""

    @property
    def calls_tools(self) -> bool:
        """Whether tools can be described to it in its prompts, and its calls be read from its answers."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """How it is sampled unless a request says otherwise."""

    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, which may take seconds."""

    def prompt_format(self) -> ChatTemplate | Llama4Prompt | None:
        """How a conversation is written; ``None`` when it is no chat model."""
