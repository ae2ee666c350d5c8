"""What a finished request gives back, and how it is folded from events."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Generic, cast

from pydantic import Field, PrivateAttr, ValidationError
from typing_extensions import TypeVar

from llama4sdk._text import gb, in_words
from llama4sdk._values import Value
from llama4sdk.constraints import Constraint, JsonSchema
from llama4sdk.errors import InvalidRequestError, StructuredOutputError
from llama4sdk.events import Attempt, Event, Finish, FinishReason, TextDelta, TokenLogprob, ToolCallDelta, Usage
from llama4sdk.messages import Message, ToolCall

__all__ = ["BAND", "Completion", "Embeddings", "Memory", "Scores", "fold"]

Parsed = TypeVar("Parsed", covariant=True, default=object)

KEPT: Final = "The error's .completion holds the answer."
CUT: Final = {
    None: ("is not at its end yet", "Read the stream to its end first."),
    "length": ("was cut at its limit of tokens", "Raise max_tokens, or bound the schema's strings and lists."),
    "tool_calls": ("calls tools", "Its .tool_calls say which."),
    "content_filter": ("was cut by a content filter", KEPT),
}
"""Why an answer that did not end by itself is no value, and what to do, by its ``finish_reason``."""


class Completion(Value, Generic[Parsed]):
    """A whole answer. ``finish_reason`` is ``None`` only in the partial result of an interrupted stream."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None
    usage: Usage = Usage()
    logprobs: tuple[TokenLogprob, ...] = ()
    model: str
    backend: str
    route: str | None = None
    """Why this model, where one was chosen for the request."""
    attempts: tuple[Attempt, ...] = ()
    """What was tried, where that is known or a fallback took over; the last one answered."""
    _constraint: Constraint | None = PrivateAttr(default=None)

    @property
    def parsed(self) -> Parsed:
        """The value that the answer is: of the type given as ``schema=``, or plain JSON of a schema.

        Raises StructuredOutputError for an answer that was cut or does not validate, InvalidRequestError for one that
        was not asked for with ``schema=``.
        """
        if not isinstance(self._constraint, JsonSchema):
            raise InvalidRequestError("This answer is plain text.", hint="Ask with schema=, or read .text.")
        if self.finish_reason != "stop":
            fault, hint = CUT[self.finish_reason]
            raise StructuredOutputError(f"The answer {fault}: {_end(self.text)}", completion=self, hint=hint)
        try:
            return cast("Parsed", self._constraint.read(self.text))
        except ValueError as error:
            reason = in_words(error) if isinstance(error, ValidationError) else str(error)
            raise StructuredOutputError(
                f"The answer does not fit its schema ({reason}): {_end(self.text)}", completion=self, hint=KEPT
            ) from error

    @property
    def message(self) -> Message:
        """The answer as a message, ready to be appended to the conversation."""
        return Message(role="assistant", content=self.text, tool_calls=self.tool_calls)

    def __str__(self) -> str:
        return self.text


class Embeddings(Value):
    """One vector per input, in the order of the inputs."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
    model: str
    backend: str
    attempts: tuple[Attempt, ...] = ()
    """What was tried, where a fallback took over; the last one answered."""

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        return len(self.vectors[0])


class Scores(Value):
    """How likely a text is to the model, token by token, each given those before it; natural logarithms."""

    tokens: tuple[str, ...]
    """Every token of the text as it was read, with what a tokenizer or chat template adds."""
    logprobs: tuple[TokenLogprob | None, ...]
    """One for each token; ``None`` for the first, which nothing comes before."""
    usage: Usage = Usage()
    model: str
    backend: str

    @property
    def scored(self) -> int:
        """How many tokens have a log-probability."""
        return len(self._values)

    @property
    def log_likelihood(self) -> float:
        """The log-probability of the whole text."""
        return math.fsum(self._values)

    @property
    def perplexity(self) -> float:
        """Between how many equally likely tokens the model seems to choose; ``nan`` where nothing was scored."""
        return math.exp(-self.log_likelihood / self.scored) if self.scored else math.nan

    @property
    def standard_error(self) -> float:
        """Of the perplexity, as if tokens were independent of each other; ``nan`` for fewer than two."""
        count = self.scored
        if count < 2:
            return math.nan
        mean = self.log_likelihood / count
        spread = math.fsum((value - mean) ** 2 for value in self._values) / (count - 1)
        return self.perplexity * math.sqrt(spread / count)

    @property
    def _values(self) -> list[float]:
        return [entry.logprob for entry in self.logprobs if entry is not None]


def fold(
    events: Iterable[Event],
    *,
    model: str,
    backend: str,
    route: str | None = None,
    constraint: Constraint | None = None,
) -> Completion:
    """One ``Completion`` from a stream's events. Pure; what is not there yet stays empty.

    ``constraint`` is the request's; by a schema the answer can be ``parsed``.
    """
    text: list[str] = []
    logprobs: list[TokenLogprob] = []
    calls: dict[int, ToolCall] = {}
    finish: Finish | None = None
    for event in events:
        if isinstance(event, TextDelta):
            text.append(event.text)
            logprobs.extend(event.logprobs)
        elif isinstance(event, ToolCallDelta):
            calls[event.index] = _extend(calls.get(event.index), event)
        else:
            finish = event
    whole = Completion(
        text="".join(text),
        tool_calls=tuple(calls[index] for index in sorted(calls)),
        finish_reason=finish.reason if finish else None,
        usage=finish.usage if finish else Usage(),
        logprobs=tuple(logprobs),
        model=model,
        backend=backend,
        route=route,
        attempts=finish.attempts if finish else (),
    )
    whole._constraint = constraint
    return whole


def _end(text: str) -> str:
    """The last of it, to show."""
    return repr(text) if len(text) <= 60 else f"…{text[-60:]!r}"


def _extend(call: ToolCall | None, delta: ToolCallDelta) -> ToolCall:
    if call is None:
        return ToolCall(id=delta.id or f"call_{delta.index}", name=delta.name or "", arguments=delta.arguments)
    return call.model_copy(update={"name": delta.name or call.name, "arguments": call.arguments + delta.arguments})


BAND: Final = 0.1
"""The share by which an engine may exceed its plan's memory before it is said."""


class Memory(Value):
    """Bytes by device. ``measured`` is the peak so far, and empty where the engine cannot tell."""

    predicted: dict[str, int] = Field(default_factory=dict)
    measured: dict[str, int] = Field(default_factory=dict)

    @property
    def excess(self) -> str | None:
        """What to say of the devices that took more than was predicted, and ``BAND`` besides; ``None`` of none."""
        beyond = [
            f"{gb(size)} on {device}, where {gb(self.predicted[device])} were predicted"
            for device, size in self.measured.items()
            if device in self.predicted and size > self.predicted[device] * (1 + BAND)
        ]
        return " and ".join(beyond) or None
