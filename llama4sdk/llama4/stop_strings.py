"""Where an answer ends: stop strings in text that arrives in pieces, wherever the pieces are cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Cut", "cut"]


class Cut(NamedTuple):
    """Text split at the point up to which no stop string can reach."""

    #: May be shown.
    safe: str
    #: Could still become a stop string; goes in front of the next piece. Empty when stopped.
    held: str
    stopped: bool


def cut(text: str, stops: Sequence[str]) -> Cut:
    """Split ``text`` (what was held back before, and the new piece) by ``stops``.

    The stop string that is complete first wins, so the answer does not depend on how it was cut into pieces.
    """
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    if found:
        return Cut(text[: min(found)[1]], "", stopped=True)
    border = len(text) - max((_overlap(text, stop) for stop in stops), default=0)
    return Cut(text[:border], text[border:], stopped=False)


def _overlap(text: str, stop: str) -> int:
    """The length of the longest end of ``text`` that begins ``stop``, without being all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
