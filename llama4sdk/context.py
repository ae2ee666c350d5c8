"""How much of the context is left for an answer: one rule for every engine that counts tokens itself."""

from __future__ import annotations

from llama4sdk.errors import ContextLengthError

__all__ = ["room_for_answer"]


def room_for_answer(prompt: int, max_tokens: int | None, context_length: int) -> int:
    """How many tokens may be generated after ``prompt`` tokens: ``max_tokens``, or else all that is left.

    Raises ContextLengthError when the prompt leaves no room, or not the room that was asked for.
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
