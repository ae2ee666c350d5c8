"""A lower bound of the tokens in texts. Pure.

Ollama counts nothing beforehand, and its model's tokenizer is on the server. But tokenizers split a text into words,
numbers of three digits and runs of punctuation before anything else, and no token reaches across such a split: each of
these pieces has at least one token, and a long one several.
"""

from __future__ import annotations

import re
from typing import Final

from llama4sdk.requests import Request

PUNCTUATION: Final = r"!-/:-@\[-`{-~"

#: Chinese, Japanese and Korean characters, of which a token has few.
CJK: Final = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
REPEATED_CHARACTER: Final = re.compile(r"(\S)\1{3,}")
PIECE: Final = re.compile(
    rf"[{PUNCTUATION}]?(?:[a-zA-Z]|[^\x00-\x7f{CJK}])+(?:'[a-zA-Z]{{1,2}})?|[0-9]{{1,3}}|[{PUNCTUATION}]+", re.ASCII
)
CJK_PIECE: Final = re.compile(f"[{CJK}]+")

#: Characters that a token is assumed to have at most.
MAX_TOKEN_CHARACTERS: Final = 16
MAX_CJK_TOKEN_CHARACTERS: Final = 4

#: The share of the pieces that is counted: some tokenizers split slightly differently from Llama 4's.
COUNTED_SHARE: Final = 0.9


def min_prompt_tokens(request: Request) -> int:
    """Return how many tokens the prompt or the messages have at least. Images and tools are not counted."""
    if request.prompt is not None:
        return min_text_tokens(request.prompt)
    return sum(min_text_tokens(message.text) for message in request.messages)


def min_text_tokens(text: str) -> int:
    """Return the same of one text: about 70 % of its tokens. A run of one character counts as the character."""
    text = REPEATED_CHARACTER.sub(r"\1", text)
    cjk_tokens = 0 if text.isascii() else _tokens(CJK_PIECE.findall(text), MAX_CJK_TOKEN_CHARACTERS)
    return int(COUNTED_SHARE * (cjk_tokens + _tokens(PIECE.findall(text), MAX_TOKEN_CHARACTERS)))


def _tokens(pieces: list[str], token_characters: int) -> int:
    return sum(-(-len(piece) // token_characters) for piece in pieces)
