"""The length of the context that fits into memory. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from llama4sdk.plan import Preference

#: Tokens of a context that has room for a conversation: what is offered when nobody asks for more.
USUAL_CONTEXT: Final = 8192

#: Tokens below which no shorter context is offered unasked.
MIN_CONTEXT: Final = 512


def largest_fitting(fits: Callable[[int], bool], limit: int) -> int:
    """The greatest number up to ``limit`` that fits, by bisection; 0 when none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def fitting_context(fits: Callable[[int], bool], limit: int, prefer: Preference) -> int:
    """The usual context, or half of it, and so on; the longest where that is preferred; 0 when nothing fits."""
    if prefer == "context":
        return largest_fitting(fits, limit)
    context = min(limit, USUAL_CONTEXT)
    while not fits(context) and context > MIN_CONTEXT:
        context //= 2
    return context if fits(context) else 0


def describe_context(context: int, batch: int) -> str:
    """A cache's size in words: ``8192 tokens of context``, or ``4 x`` as many."""
    return f"{f'{batch} x ' if batch > 1 else ''}{context} tokens of context"
