"""Llama 4's vocabulary as Meta publishes it: a rank file (``tokenizer.model``), and the control tokens by position.

A rank file says in which order byte pairs may be joined, one ``base64 rank`` per line. Joining the pair whose result
has the lowest rank, the leftmost first, is byte-pair encoding with every way to make a token listed as a merge.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final

from llama4sdk.errors import CheckpointError

__all__ = [
    "LLAMA4_MARKS",
    "LONGEST_RUN",
    "LONGEST_TEXT",
    "TURN_ENDS",
    "control_tokens",
    "is_llama4",
    "merges",
    "pieces",
    "read_ranks",
]

LONGEST_TEXT: Final = 400_000
#: Meta's tokenizer encodes at most so many characters, and so many with or without space in a row, as one text.
LONGEST_RUN: Final = 25_000

#: Control tokens that no other vocabulary has together.
LLAMA4_MARKS: Final = frozenset({"<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>"})

TURN_ENDS: Final = ("<|end_of_text|>", "<|eom|>", "<|eot|>")
CONTROL_TOKENS: Final = 2048


def read_ranks(data: bytes) -> dict[bytes, int]:
    """Token bytes to ids. Raises CheckpointError for a file that is of another kind or damaged."""
    try:
        lines = [line.split() for line in data.splitlines() if line.strip()]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error) as error:
        raise CheckpointError("tokenizer.model is no list of byte pairs, as Llama 4's is.") from error
    if sorted(ranks.values()) != list(range(len(lines))) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise CheckpointError("tokenizer.model is damaged: its tokens are not numbered from 0, or bytes are missing.")
    return ranks


def merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Every pair of tokens that makes a token, in the order in which they are joined."""
    for token in sorted(ranks, key=ranks.__getitem__):
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ranks and right in ranks:
                yield left, right


def control_tokens(first: int) -> dict[str, int]:
    """The 2048 control tokens of Llama 4 and their ids, beginning with ``first``."""
    names = list(_names())
    names += (f"<|reserved_special_token_{number}|>" for number in range(CONTROL_TOKENS - len(names)))
    return {name: first + place for place, name in enumerate(names)}


def is_llama4(control: Mapping[str, int]) -> bool:
    """Whether a vocabulary with these control tokens is Llama 4's."""
    return control.keys() >= LLAMA4_MARKS


def pieces(text: str) -> Iterator[str]:
    """The parts of a text that Meta's tokenizer encodes by themselves; nearly always the text itself."""
    for start in range(0, len(text), LONGEST_TEXT):
        yield from _without_long_runs(text[start : start + LONGEST_TEXT])


def _without_long_runs(text: str) -> Iterator[str]:
    if len(text) <= LONGEST_RUN:
        yield text
        return
    begin, run = 0, 0
    for place, char in enumerate(text):
        same = place > 0 and char.isspace() == text[place - 1].isspace()
        run = run + 1 if same else 1
        if run > LONGEST_RUN:
            yield text[begin:place]
            begin, run = place, 1
    yield text[begin:]


def _names() -> Iterator[str]:
    """In the order of their ids; what is reserved is numbered within its kind."""
    yield from _marks("begin_of_text end_of_text fim_prefix fim_middle fim_suffix")
    yield from _marks("header_start header_end eom eot step")
    yield from _reserved("text_post_train", 0, 6)
    yield from _marks("python_start python_end finetune_right_pad")
    yield from _reserved("text_post_train", 8, 69)
    yield from _marks("image_start image_end")
    yield from _reserved("vision", 0, 2)
    yield from _marks("tile_x_separator tile_y_separator")
    yield from _reserved("vision", 2, 6)
    yield from _marks("image")
    yield from _reserved("vision", 6, 7)
    yield from _marks("patch")
    yield from _reserved("vision", 7, 1048)
    yield from _reserved("reasoning", 0, 8)
    yield from _marks("reasoning_thinking_start reasoning_thinking_end")


def _marks(words: str) -> Iterator[str]:
    return (f"<|{word}|>" for word in words.split())


def _reserved(kind: str, begin: int, end: int) -> Iterator[str]:
    return (f"<|{kind}_reserved_special_token_{number}|>" for number in range(begin, end))
