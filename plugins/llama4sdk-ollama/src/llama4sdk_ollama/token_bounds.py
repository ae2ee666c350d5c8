"""The fewest tokens that texts can have. Pure.

Ollama counts nothing beforehand, and its model's tokenizer is elsewhere. But tokenizers cut a text into words, numbers
of three digits and rows of signs before anything else, and no token reaches over such a cut. Each of these pieces has a
token at least, and a long one several.
"""

from __future__ import annotations

import re
from typing import Final

from llama4sdk.requests import Request

__all__ = ["fewest_in", "fewest_tokens"]

SIGN: Final = r"!-/:-@\[-`{-~"
DENSE: Final = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Chinese, Japanese and Korean, whose tokens have few characters."""
ROW: Final = re.compile(r"(\S)\1{3,}")
PIECE: Final = re.compile(
    rf"[{SIGN}]?(?:[a-zA-Z]|[^\x00-\x7f{DENSE}])+(?:'[a-zA-Z]{{1,2}})?|[0-9]{{1,3}}|[{SIGN}]+", re.ASCII
)
DENSE_PIECE: Final = re.compile(f"[{DENSE}]+")
LONGEST: Final = 16
LONGEST_DENSE: Final = 4
"""Characters that a token is taken to have at most."""
SURE: Final = 0.9
"""Of the pieces this share is counted on: some tokenizers cut a little otherwise than Llama 4's."""


def fewest_tokens(request: Request) -> int:
    """So many tokens, or more, are in the prompt or the messages. Images and tools are not counted."""
    if request.prompt is not None:
        return fewest_in(request.prompt)
    return sum(fewest_in(message.text) for message in request.messages)


def fewest_in(text: str) -> int:
    """The same of one text, about seven in ten that it has. A row of one sign counts as the sign."""
    text = ROW.sub(r"\1", text)
    dense = 0 if text.isascii() else _tokens(DENSE_PIECE.findall(text), LONGEST_DENSE)
    return int(SURE * (dense + _tokens(PIECE.findall(text), LONGEST)))


def _tokens(pieces: list[str], longest: int) -> int:
    return sum(-(-len(piece) // longest) for piece in pieces)
