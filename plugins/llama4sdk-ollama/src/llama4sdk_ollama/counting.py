"""The fewest tokens that texts can have. Pure.

Ollama counts nothing beforehand, and its model's tokenizer is elsewhere. But a token does not reach from one word into
another, and is not long unless it is a row of one sign: every word has one at least, and a long word several.
"""

from __future__ import annotations

import re
from typing import Final

from llama4sdk.requests import Request

__all__ = ["fewest_in", "fewest_tokens"]

WORD: Final = re.compile(r"\S+")
ROW: Final = re.compile(r"(\S)\1{3,}")
LONGEST: Final = 16
"""Characters that a token is taken to have at most, rows of one sign aside."""


def fewest_tokens(request: Request) -> int:
    """So many tokens, or more, are in the prompt or the messages. Images and tools are not counted."""
    if request.prompt is not None:
        return fewest_in(request.prompt)
    return sum(fewest_in(message.text) for message in request.messages)


def fewest_in(text: str) -> int:
    """The same of one text."""
    return sum(-(-len(word) // LONGEST) for word in WORD.findall(ROW.sub(r"\1", text)))
