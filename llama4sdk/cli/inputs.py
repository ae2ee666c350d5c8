"""Reading a command's input: words on the command line, files, stdin."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from llama4sdk.errors import ConfigurationError, InvalidRequestError

STDIN = "-"


def read_words(words: list[str] | None) -> str:
    """Join words into a text; each ``-`` stands for all of stdin, which is the text when there are no words.

    Raises ConfigurationError when there is neither.
    """
    if not words and sys.stdin.isatty():
        raise ConfigurationError("There is nothing to work on.", hint="Give a text, or pipe one in.")
    stdin = read_stdin() if not words or STDIN in words else ""
    return " ".join(stdin if word == STDIN else word for word in words or [STDIN])


def read_text(path: Path) -> str:
    """Read a text file, or stdin for ``-``. Raises InvalidRequestError when it is unreadable, empty or no text."""
    text = read_stdin() if str(path) == STDIN else read_file(path)
    if "\0" in text:
        raise InvalidRequestError(f"Cannot read {path}: it is no text.")
    if not text.strip():
        raise InvalidRequestError(f"There is no text in {path}.")
    return text


def read_stdin() -> str:
    """Read all of stdin, without the line break that ends it. Raises InvalidRequestError when it is no text."""
    try:
        return sys.stdin.read().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise InvalidRequestError("What was piped in is no UTF-8 text.") from error


def read_file(path: Path, kind: str = "") -> str:
    """Read a text file. Raises InvalidRequestError when it cannot be read or is no text."""
    name = f"the {kind} {path}" if kind else str(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise InvalidRequestError(f"Cannot read {name}: {reason}.") from error


def read_json_object(path: Path, kind: str) -> dict[str, object]:
    """Read a file that holds one JSON object. Raises InvalidRequestError for anything else."""
    text = read_file(path, kind)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"The {kind} {path} is no JSON: {error}.") from error
    if not isinstance(value, dict):
        raise InvalidRequestError(f"The {kind} {path} is no JSON object.")
    return value
