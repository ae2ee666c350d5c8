"""The pieces of a stream: any number of deltas, then exactly one ``Finish``."""

from __future__ import annotations

from typing import Literal, TypeAlias

from llama4sdk._values import Value

__all__ = [
    "Attempt",
    "Event",
    "Finish",
    "FinishReason",
    "TextDelta",
    "TokenLogprob",
    "ToolCallDelta",
    "TopLogprob",
    "Usage",
]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class Usage(Value):
    """Tokens read and written; ``None`` where the backend does not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cost: float | None = None
    """In US dollars, by the price the SDK knows of the endpoint; ``None`` where it knows none. Never guessed."""

    @property
    def total_tokens(self) -> int | None:
        """Input and output together, when both are known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


class TopLogprob(Value):
    """A token that could have been drawn; natural logarithm."""

    token: str
    logprob: float


class TokenLogprob(Value):
    """A token that was drawn, with the likeliest alternatives at its place, likeliest first.

    The probabilities are the model's own: before temperature, penalties and truncation.
    """

    token: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class TextDelta(Value):
    """More text of the answer. Never cuts a character; may carry several tokens, or none of a whole one."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCallDelta(Value):
    """More of tool call number ``index``; ``id`` and ``name`` come with its first piece."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Attempt(Value):
    """One try of a request at one place; without ``error`` it is the one that answered."""

    backend: str
    model: str
    error: str | None = None
    seconds: float = 0.0
    """From its start to its end, or to the first event of the answer."""
    wait: float | None = None
    """Seconds until the next try at the same place; ``None`` where there was none."""


class Finish(Value):
    """The last event of every stream that ran to its end."""

    reason: FinishReason
    usage: Usage = Usage()
    attempts: tuple[Attempt, ...] = ()
    """What was tried, where that is known to the backend; the last one answered."""


Event: TypeAlias = TextDelta | ToolCallDelta | Finish
