"""The results of requests, and the function that makes a completion of a stream's events."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, Generic, cast

from pydantic import Field, PrivateAttr
from typing_extensions import TypeVar

from llama4sdk._text import gb, in_words
from llama4sdk._values import Value
from llama4sdk.constraints import Constraint, JsonSchema
from llama4sdk.errors import InvalidRequestError, StructuredOutputError
from llama4sdk.events import Attempt, Event, Finish, FinishReason, TextDelta, TokenLogprob, ToolCallDelta, Usage
from llama4sdk.messages import Message, ToolCall

__all__ = ["MEMORY_TOLERANCE", "Completion", "Embeddings", "Memory", "Scores", "fold"]

Parsed = TypeVar("Parsed", covariant=True, default=object)

COMPLETION_HINT: Final = "The error's .completion holds the answer."
#: Error and hint for an answer that did not end by itself, by its ``finish_reason``.
INCOMPLETE: Final = {
    None: ("is not at its end yet", "Read the stream to its end first."),
    "length": ("was cut at its limit of tokens", "Raise max_tokens, or bound the schema's strings and lists."),
    "tool_calls": ("calls tools", "Its .tool_calls say which."),
    "content_filter": ("was cut by a content filter", COMPLETION_HINT),
}


class Completion(Value, Generic[Parsed]):
    """A whole answer. ``finish_reason`` is ``None`` only in the partial result of an interrupted stream."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None
    usage: Usage = Usage()
    logprobs: tuple[TokenLogprob, ...] = ()
    model: str
    backend: str
    #: Reason for the model, where it was chosen for the request.
    route: str | None = None
    #: All attempts, where they are known or a fallback answered; the last one answered.
    attempts: tuple[Attempt, ...] = ()
    _constraint: Constraint | None = PrivateAttr(default=None)

    @property
    def parsed(self) -> Parsed:
        """The answer's value, of the type given as ``schema=``, or plain JSON of a JSON schema.

        Raises StructuredOutputError for an answer that was cut or does not validate, InvalidRequestError where the
        request had no ``schema=``.
        """
        if not isinstance(self._constraint, JsonSchema):
            raise InvalidRequestError("This answer is plain text.", hint="Ask with schema=, or read .text.")
        if self.finish_reason != "stop":
            fault, hint = INCOMPLETE[self.finish_reason]
            raise StructuredOutputError(f"The answer {fault}: {_tail(self.text)}", completion=self, hint=hint)
        try:
            return cast("Parsed", self._constraint.read(self.text))
        except ValueError as error:
            message = f"The answer does not fit its schema ({in_words(error)}): {_tail(self.text)}"
            raise StructuredOutputError(message, completion=self, hint=COMPLETION_HINT) from error

    @property
    def message(self) -> Message:
        """The answer as a message, to be appended to the conversation."""
        return Message(role="assistant", content=self.text, tool_calls=self.tool_calls)

    def __str__(self) -> str:
        return self.text


class Embeddings(Value):
    """One vector per input, in the order of the inputs."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage = Usage()
    model: str
    backend: str
    #: All attempts, where a fallback answered; the last one answered.
    attempts: tuple[Attempt, ...] = ()

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        return len(self.vectors[0])


class Scores(Value):
    """Natural log-probabilities of a text's tokens, each given the tokens before it."""

    #: Every token that the model read, including those that a tokenizer or chat template adds.
    tokens: tuple[str, ...]
    #: One for each token; ``None`` for the first, which has no context.
    logprobs: tuple[TokenLogprob | None, ...]
    usage: Usage = Usage()
    model: str
    backend: str

    @property
    def scored(self) -> int:
        """Number of tokens with a log-probability."""
        return len(self._values)

    @property
    def log_likelihood(self) -> float:
        """The log-probability of the whole text."""
        return math.fsum(self._values)

    @property
    def perplexity(self) -> float:
        """The exponential of the mean negative log-probability; ``nan`` where nothing was scored."""
        return math.exp(-self.log_likelihood / self.scored) if self.scored else math.nan

    @property
    def standard_error(self) -> float:
        """Standard error of the perplexity for independent tokens; ``nan`` for fewer than two."""
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
    """Make a ``Completion`` of a stream's events; a stream that is not at its end gives a partial one. Pure.

    ``constraint`` is the request's: an answer to a schema can be ``parsed``.
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
    completion = Completion(
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
    completion._constraint = constraint
    return completion


def _tail(text: str) -> str:
    """The end of a text, for an error message."""
    return repr(text) if len(text) <= 60 else f"…{text[-60:]!r}"


def _extend(call: ToolCall | None, delta: ToolCallDelta) -> ToolCall:
    if call is None:
        return ToolCall(id=delta.id or f"call_{delta.index}", name=delta.name or "", arguments=delta.arguments)
    return call.model_copy(update={"name": delta.name or call.name, "arguments": call.arguments + delta.arguments})


#: Fraction by which an engine may exceed its plan's memory before it is reported.
MEMORY_TOLERANCE: Final = 0.1


class Memory(Value):
    """Bytes on each device: as planned, and the measured peak so far, empty where an engine measures nothing."""

    predicted: dict[str, int] = Field(default_factory=dict)
    measured: dict[str, int] = Field(default_factory=dict)

    @property
    def excess(self) -> str | None:
        """Describe the devices that exceed the plan by more than ``MEMORY_TOLERANCE``; ``None`` where none does."""
        parts = [
            f"{gb(size)} on {device}, where {gb(self.predicted[device])} were predicted"
            for device, size in self.measured.items()
            if device in self.predicted and size > self.predicted[device] * (1 + MEMORY_TOLERANCE)
        ]
        return " and ".join(parts) or None
