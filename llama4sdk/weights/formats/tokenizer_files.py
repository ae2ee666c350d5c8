"""Small files beside weights: tokenizers, chat templates and JSON settings, in Hugging Face's formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import JsonValue, TypeAdapter, ValidationError

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.llama4.vocabulary import LLAMA4_TOKENS, is_llama4
from llama4sdk.weights.checkpoint import TextFormats

_OBJECT: Final = TypeAdapter(dict[str, JsonValue])


class TokenizerFiles(TextFormats):
    """A model whose tokenizer and chat template are files of its directory."""

    path: Path

    def tokenizer(self) -> Tokenizer:
        """Build the tokenizer of ``tokenizer.json``, or else of Meta's ``tokenizer.model``."""
        if (file := self.path / "tokenizer.json").is_file():
            return Tokenizer.from_json(_read_text(file))
        if (file := self.path / "tokenizer.model").is_file():
            return Tokenizer.from_tiktoken(file)
        raise CheckpointError(
            f"{self.path} has neither tokenizer.json nor tokenizer.model.",
            hint="Fetch the checkpoint's tokenizer files.",
        )

    def chat_template(self) -> ChatTemplate | None:
        """Read ``chat_template.jinja``, or else the template in ``tokenizer_config.json``."""
        settings = read_json(self.path / "tokenizer_config.json")
        file = self.path / "chat_template.jinja"
        source = _read_text(file) if file.is_file() else _default_template(settings.get("chat_template"))
        return None if source is None else ChatTemplate(source, _special_tokens(settings))

    @property
    def has_llama4_vocabulary(self) -> bool:
        """Whether the tokenizer is Llama 4's; a ``tokenizer.model`` always is."""
        if not (file := self.path / "tokenizer.json").is_file():
            return (self.path / "tokenizer.model").is_file()
        text = _read_text(file)
        return is_llama4({name: 0 for name in LLAMA4_TOKENS if json.dumps(name) in text})


def _read_text(file: Path) -> str:
    """Read a text file. Raises CheckpointError when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def read_json(file: Path, *, needed: bool = False) -> dict[str, JsonValue]:
    """Read a JSON object; empty when the file is missing and not ``needed``. Raises CheckpointError."""
    if not needed and not file.is_file():
        return {}
    if not file.is_file():
        raise CheckpointError(f"{file.parent} has no {file.name}.", hint="Give a directory with a checkpoint in it.")
    try:
        return _OBJECT.validate_json(_read_text(file))
    except ValidationError as error:
        raise CheckpointError(f"{file} is no JSON object.", hint="Fetch the file again.") from error


def _default_template(value: JsonValue) -> str | None:
    """The only template, or the default one of a list of named templates."""
    if isinstance(value, list):
        templates = {str(entry.get("name")): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = templates.get("default")
    return value if isinstance(value, str) else None


def _special_tokens(settings: Mapping[str, JsonValue]) -> dict[str, str]:
    """Special tokens such as ``bos_token``, each given as text or as an object with ``content``."""
    texts = {
        key: value.get("content") if isinstance(value, dict) else value
        for key, value in settings.items()
        if key.endswith("_token")
    }
    return {key: text for key, text in texts.items() if isinstance(text, str)}
