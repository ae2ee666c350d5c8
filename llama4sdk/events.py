"""The events of a stream: any number of deltas, then exactly one ``Finish``."""

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
    """Tokens of the prompt and of the answer; ``None`` where the backend does not report them."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    #: US dollars, as reported by the endpoint or by a known price; ``None`` where neither is there. Never estimated.
    cost: float | None = None

    @property
    def total_tokens(self) -> int | None:
        """Input and output together, when both are known."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens + self.output_tokens


class TopLogprob(Value):
    """A candidate token and the natural logarithm of its probability."""

    token: str
    logprob: float


class TokenLogprob(Value):
    """A token of the answer, its log-probability, and the likeliest candidates at its position, likeliest first.

    The probabilities are the model's own: before temperature, penalties and truncation.
    """

    token: str
    logprob: float
    top: tuple[TopLogprob, ...] = ()


class TextDelta(Value):
    """A piece of the answer's text, of whole characters: one token, several, or a part of one."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ToolCallDelta(Value):
    """A piece of tool call number ``index``; ``id`` and ``name`` come with the first piece."""

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class Attempt(Value):
    """One attempt to answer a request; without ``error`` it is the one that answered."""

    backend: str
    model: str
    error: str | None = None
    #: From its start to its failure, or to the first event of the answer.
    seconds: float = 0.0
    #: Seconds until the next attempt at the same endpoint; ``None`` where there was none.
    wait: float | None = None


class Finish(Value):
    """The last event of every stream that is complete."""

    reason: FinishReason
    usage: Usage = Usage()
    #: All attempts, where the backend reports them; the last one answered.
    attempts: tuple[Attempt, ...] = ()


Event: TypeAlias = TextDelta | ToolCallDelta | Finish
