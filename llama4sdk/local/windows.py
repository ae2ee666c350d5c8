"""The windows in which a long text is scored: one rule for all engines. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llama4sdk.errors import ContextLengthError

__all__ = ["Scored", "Window", "room_for_answer", "windows"]


class Window(NamedTuple):
    """Tokens [begin, end) are read, and of these [first, end) scored."""

    begin: int
    first: int
    end: int


def windows(tokens: int, *, window: int | None, stride: int | None, context_length: int) -> Iterator[Window]:
    """The windows of a text of so many tokens, in which each token but the first is scored once.

    A window is as long as the context unless said otherwise, and half a window is its stride. The first window's tokens
    are scored with all that comes before them; those after it, ``stride`` at a time, with ``window - stride`` tokens
    before the first of them. Raises ContextLengthError when a window is longer than the context.
    """
    if window is not None and window > context_length:
        raise ContextLengthError(
            f"A window of {window} tokens exceeds the context of {context_length}.",
            hint="Ask for a smaller window, or for a longer context_length.",
            limit=context_length,
            requested=window,
        )
    length = max(2, window or context_length)  # the last of them is only predicted, and takes no room
    step = min(stride or length // 2, length - 1)
    yield Window(0, 1, min(length, tokens))
    for first in range(length, tokens, step):
        yield Window(first + step - length, first, min(first + step, tokens))


def room_for_answer(prompt: int, max_tokens: int | None, context_length: int) -> int:
    """Tokens that may be generated after ``prompt`` tokens: ``max_tokens``, or else the rest of the context.

    Raises ContextLengthError when the prompt leaves no room, or less than ``max_tokens``.
    """
    wanted = 1 if max_tokens is None else max_tokens
    if prompt + wanted > context_length:
        answer = "" if max_tokens is None else f" and max_tokens={max_tokens}"
        raise ContextLengthError(
            f"A prompt of {prompt} tokens{answer} does not fit into the context of {context_length}.",
            limit=context_length,
            requested=prompt + wanted,
            hint="Shorten the prompt, lower max_tokens, or ask for a larger context_length.",
        )
    return context_length - prompt if max_tokens is None else max_tokens


class Scored(NamedTuple):
    """One token's log-probability; ``top`` are (token, log-probability) pairs, likeliest first."""

    logprob: float
    top: tuple[tuple[int, float], ...]
