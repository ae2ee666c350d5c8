"""The part of a model that turns text into tokens and back."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.weights.checkpoint import GenerationDefaults


class TextSource(Protocol):
    """Everything that an engine needs of a model beside its weights. A ``Checkpoint`` is one."""

    @property
    def path(self) -> Path:
        """Its path, for errors."""

    @property
    def calls_tools(self) -> bool:
        """Whether its prompts can describe tools, and its answers be parsed for calls."""

    @property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end an answer."""

    @property
    def generation_defaults(self) -> GenerationDefaults:
        """Sampling options that apply unless a request overrides them."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer; reading it may take seconds."""

    def prompt_format(self) -> ChatTemplate | Llama4Prompt | None:
        """The format of conversations; ``None`` when it is no chat model."""
