"""Find stop strings in text that arrives in pieces, however it is divided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Cut", "cut"]


class Cut(NamedTuple):
    """Text split before the part that could belong to a stop string."""

    #: Text that belongs to no stop string.
    safe: str
    #: Text that may begin a stop string: to be put before the next piece. Empty when stopped.
    pending: str
    stopped: bool


def cut(text: str, stops: Sequence[str]) -> Cut:
    """Split ``text``, which is the pending text and the next piece, at the first of the stop strings.

    The stop string that is complete first counts, so the result does not depend on how the text is divided.
    """
    matches = [(start + len(stop), start) for stop in stops if (start := text.find(stop)) >= 0]
    if matches:
        return Cut(text[: min(matches)[1]], "", stopped=True)
    safe_length = len(text) - max((_overlap(text, stop) for stop in stops), default=0)
    return Cut(text[:safe_length], text[safe_length:], stopped=False)


def _overlap(text: str, stop: str) -> int:
    """Length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
