"""Llama 4's vocabulary as Meta publishes it: a rank file (``tokenizer.model``), and control tokens after it.

A rank file has a token and its rank on each line: ``base64 rank``. Joining the pair whose result has the lowest rank,
the leftmost first, is byte-pair encoding with every split of a token as a merge.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final

from llama4sdk.errors import CheckpointError

#: Limits of Meta's tokenizer: characters of a text, and consecutive characters that are all space or all not.
MAX_TEXT_LENGTH: Final = 400_000
MAX_RUN_LENGTH: Final = 25_000

#: Control tokens that only Llama 4's vocabulary has together.
LLAMA4_TOKENS: Final = frozenset({"<|begin_of_text|>", "<|header_start|>", "<|header_end|>", "<|eom|>", "<|eot|>"})

TURN_ENDS: Final = ("<|end_of_text|>", "<|eom|>", "<|eot|>")
CONTROL_TOKEN_COUNT: Final = 2048


def read_ranks(data: bytes) -> dict[bytes, int]:
    """Parse a rank file to token ids by token bytes. Raises CheckpointError for a damaged or different file."""
    try:
        lines = [line.split() for line in data.splitlines() if line.strip()]
        ranks = {base64.b64decode(token, validate=True): int(rank) for token, rank in lines}
    except (ValueError, binascii.Error) as error:
        raise CheckpointError("tokenizer.model is no list of byte pairs, as Llama 4's is.") from error
    if sorted(ranks.values()) != list(range(len(lines))) or any(bytes([byte]) not in ranks for byte in range(256)):
        raise CheckpointError("tokenizer.model is damaged: its tokens are not numbered from 0, or bytes are missing.")
    return ranks


def merges(ranks: Mapping[bytes, int]) -> Iterator[tuple[bytes, bytes]]:
    """Every pair of tokens that joins to a token, in order of priority."""
    for token in sorted(ranks, key=ranks.__getitem__):
        for split in range(1, len(token)):
            left, right = token[:split], token[split:]
            if left in ranks and right in ranks:
                yield left, right


def control_tokens(first: int) -> dict[str, int]:
    """Llama 4's 2048 control tokens with their ids, from ``first`` on."""
    names = list(_control_names())
    names += (f"<|reserved_special_token_{number}|>" for number in range(CONTROL_TOKEN_COUNT - len(names)))
    return {name: first + offset for offset, name in enumerate(names)}


def is_llama4(control: Mapping[str, int]) -> bool:
    """Whether a vocabulary with these control tokens is Llama 4's."""
    return control.keys() >= LLAMA4_TOKENS


def segments(text: str) -> Iterator[str]:
    """Split a text where Meta's tokenizer does; most texts are one segment."""
    for start in range(0, len(text), MAX_TEXT_LENGTH):
        yield from _split_long_runs(text[start : start + MAX_TEXT_LENGTH])


def _split_long_runs(text: str) -> Iterator[str]:
    if len(text) <= MAX_RUN_LENGTH:
        yield text
        return
    start, run = 0, 0
    for position, char in enumerate(text):
        same = position > 0 and char.isspace() == text[position - 1].isspace()
        run = run + 1 if same else 1
        if run > MAX_RUN_LENGTH:
            yield text[start:position]
            start, run = position, 1
    yield text[start:]


def _control_names() -> Iterator[str]:
    """Names in the order of ids; reserved tokens are numbered within their kind."""
    yield from _tokens("begin_of_text end_of_text fim_prefix fim_middle fim_suffix")
    yield from _tokens("header_start header_end eom eot step")
    yield from _reserved_tokens("text_post_train", 0, 6)
    yield from _tokens("python_start python_end finetune_right_pad")
    yield from _reserved_tokens("text_post_train", 8, 69)
    yield from _tokens("image_start image_end")
    yield from _reserved_tokens("vision", 0, 2)
    yield from _tokens("tile_x_separator tile_y_separator")
    yield from _reserved_tokens("vision", 2, 6)
    yield from _tokens("image")
    yield from _reserved_tokens("vision", 6, 7)
    yield from _tokens("patch")
    yield from _reserved_tokens("vision", 7, 1048)
    yield from _reserved_tokens("reasoning", 0, 8)
    yield from _tokens("reasoning_thinking_start reasoning_thinking_end")


def _tokens(words: str) -> Iterator[str]:
    return (f"<|{word}|>" for word in words.split())


def _reserved_tokens(kind: str, start: int, end: int) -> Iterator[str]:
    return (f"<|{kind}_reserved_special_token_{number}|>" for number in range(start, end))
