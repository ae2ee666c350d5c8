"""What a network says of one token of a text."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Scored"]


class Scored(NamedTuple):
    """One token's log-probability; ``top`` are (token, log-probability) pairs, likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...]
