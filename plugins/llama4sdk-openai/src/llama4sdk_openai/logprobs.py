"""Log-probabilities in the forms that servers have for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any, Final

from llama4sdk.events import TokenLogprob, TopLogprob

__all__ = ["logprobs"]

LEAST: Final = -9999.0
"""What stands for a probability of nothing, which JSON has no number for."""


def logprobs(seen: object, tops: int) -> tuple[TokenLogprob, ...]:
    """The drawn tokens, each with at most ``tops`` alternatives, likeliest first.

    Chats have a list of objects under ``content``, raw text and Together parallel arrays.
    """
    if not isinstance(seen, dict):
        return ()
    content = seen.get("content")
    if isinstance(content, list):
        return tuple(_entry(one, tops) for one in content if isinstance(one, dict))
    tokens, values = seen.get("tokens"), seen.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return ()
    others = seen.get("top_logprobs")
    places = zip_longest(tokens, values, (others if isinstance(others, list) else ())[: len(tokens)])
    return tuple(
        TokenLogprob(token=str(token), logprob=_number(value), top=_top(other, tops)) for token, value, other in places
    )


def _entry(entry: Mapping[str, Any], tops: int) -> TokenLogprob:
    top = entry.get("top_logprobs")
    return TokenLogprob(token=str(entry.get("token", "")), logprob=_number(entry.get("logprob")), top=_top(top, tops))


def _top(others: object, tops: int) -> tuple[TopLogprob, ...]:
    """Alternatives given as objects, or as a mapping of token to value."""
    if isinstance(others, dict):
        pairs: Iterable[tuple[object, object]] = others.items()
    elif isinstance(others, list):
        pairs = [(one.get("token"), one.get("logprob")) for one in others if isinstance(one, dict)]
    else:
        return ()
    found = sorted((TopLogprob(token=str(token), logprob=_number(value)) for token, value in pairs), key=_falling)
    return tuple(found[:tops])


def _falling(one: TopLogprob) -> float:
    return -one.logprob


def _number(value: object) -> float:
    return min(0.0, float(value)) if isinstance(value, int | float) else LEAST
