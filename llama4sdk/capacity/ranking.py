"""What is wanted of a machine, as an order of the ways to use it. Pure.

What people who run such models do by default: they do not go below four bits a weight for speed's sake, since what is
lost there is seen in answers; they leave the accelerators when that keeps the four bits at a speed one can live with;
and in the machine's memory, where every byte costs time, they take four bits and no more. Speeds count by their
cautious end: a guess, which is wide, does not win by what it might be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from llama4sdk.capacity.contexts import USUAL_CONTEXT
from llama4sdk.plan import Preference

if TYPE_CHECKING:
    from llama4sdk.capacity.candidates import Candidate

__all__ = ["BEARABLE", "FLOOR_BITS", "PREFERENCES", "best_of_each", "rank"]

FLOOR_BITS: Final = 4
"""Fewer only where four cannot be had at a bearable speed, or are asked for."""

BEARABLE: Final = 1.5
"""Tokens a second, by the cautious end; the middle of a usual interval is then the speed of speech."""

HOPELESS: Final = 0.3
"""The same, below which more bits are no excuse."""

ROOMY: Final = 32_768
FULL: Final = 0.97
"""A device filled to this share should have room for that many tokens of context, before more bits are worth having."""

GRADES: Final = ((16, 0), (6, 1), (4, 2), (3, 3), (0, 4))
"""Bits at least, and what is lost: nothing, nearly nothing, little, much, more. Within a grade speed decides."""


def rank(found: Sequence[Candidate], prefer: Preference = "balanced") -> list[Candidate]:
    """Those that fit and are not refused, best first."""
    usable = [candidate for candidate in found if candidate.layout.usable]
    return sorted(usable, key=PREFERENCES[prefer])


def best_of_each(found: Sequence[Candidate], prefer: Preference = "balanced") -> list[Candidate]:
    """For every model, engine and precision the best layout; where none can run, the one that lacks least."""
    kinds = dict.fromkeys((c.layout.model, c.layout.engine, c.layout.precision) for c in found)
    chosen = []
    for kind in kinds:
        alike = [c for c in found if (c.layout.model, c.layout.engine, c.layout.precision) == kind]
        chosen.append((rank(alike, prefer) or sorted(alike, key=lambda c: c.layout.missing))[0])
    return chosen


def _makeshift(candidate: Candidate) -> int:
    """Reading experts from disk is the last resort, and too short a context for a conversation hardly better."""
    return 2 * (candidate.layout.kind == "disk") + (candidate.layout.context < USUAL_CONTEXT)


def _place(candidate: Candidate) -> int:
    """Accelerators alone, with the machine's memory, the machine's memory alone, the disk."""
    return {"offload": 1, "cpu": 2, "disk": 3}.get(candidate.layout.kind, 0)


def _cautious(candidate: Candidate) -> float:
    """Tokens a second; of accelerators that nobody knows as many as is bearable, and nothing elsewhere."""
    if candidate.decode is not None:
        return candidate.decode.low
    return 0.0 if _place(candidate) else BEARABLE


def _fall(candidate: Candidate, bearable: float = BEARABLE) -> int:
    """What one settles for: four bits at a bearable speed, fewer at one, four slowly, fewer slowly, crawling.

    From disk everything crawls, and fewer bits change nothing of it.
    """
    speed, fewer = _cautious(candidate), candidate.bits < FLOOR_BITS
    if candidate.layout.kind == "disk":
        return int(fewer)
    return (4 if speed < HOPELESS else 2 if speed < bearable else 0) + fewer


def _loss(candidate: Candidate) -> int:
    """On accelerators by grade; elsewhere none at four bits and more, for there speed is what is short."""
    if _place(candidate) and candidate.bits >= FLOOR_BITS:
        return 0
    return next(loss for bits, loss in GRADES if candidate.bits >= bits)


def _pace(candidate: Candidate) -> tuple[float, ...]:
    """On accelerators by steps of two fifths: what is nearly as fast is as fast, better if measured or of more bits.

    Elsewhere every bit is felt.
    """
    speed = _cautious(candidate)
    step = speed if _place(candidate) else round(2 * math.log2(speed)) if speed else 0
    layout, guessed = candidate.layout, candidate.label == "guessed"
    alike = layout.support[0] != "native", -speed, len(layout.devices), -layout.context
    return -step, guessed, -candidate.bits, *alike


def _tight(candidate: Candidate) -> bool:
    """Whether more bits have taken what a long conversation needs."""
    layout = candidate.layout
    if layout.context >= ROOMY or layout.kind in ("offload", "disk"):  # whose context is a usual one, not the longest
        return False
    return any(share.total > FULL * share.room for share in layout.shares)


def _balanced(c: Candidate) -> tuple[float, ...]:
    return _makeshift(c), _fall(c), _place(c), _tight(c), _loss(c), *_pace(c)


def _quality(c: Candidate) -> tuple[float, ...]:
    slow = _cautious(c) < HOPELESS
    return _makeshift(c), _fall(c, HOPELESS), 0 if slow else -min(c.bits, 16), _place(c), *_pace(c)


PREFERENCES: Final[dict[Preference, Callable[[Candidate], tuple[float, ...]]]] = {
    "balanced": _balanced,
    "quality": _quality,
    "speed": lambda c: (_makeshift(c), _fall(c), -_cautious(c), *_balanced(c)),
    "context": lambda c: (_makeshift(c), _fall(c), -c.layout.context, *_balanced(c)),
    "cost": _balanced,  # here every token is free of charge
}
"""What counts, in order; smallest for what is preferred."""
