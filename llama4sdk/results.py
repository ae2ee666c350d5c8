"""What a finished request gives back, and how it is folded from events."""

from __future__ import annotations

from collections.abc import Iterable

from llama4sdk._values import Value
from llama4sdk.events import Event, Finish, FinishReason, TextDelta, TokenLogprob, ToolCallDelta, Usage
from llama4sdk.messages import Message, ToolCall

__all__ = ["Completion", "Embeddings", "fold"]


class Completion(Value):
    """A whole answer. ``finish_reason`` is ``None`` only in the partial result of an interrupted stream."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None
    usage: Usage = Usage()
    logprobs: tuple[TokenLogprob, ...] = ()
    model: str
    backend: str

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

    @property
    def dimensions(self) -> int:
        """The length of each vector."""
        return len(self.vectors[0])


def fold(events: Iterable[Event], *, model: str, backend: str) -> Completion:
    """One ``Completion`` from a stream's events. Pure; what is not there yet stays empty."""
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
    return Completion(
        text="".join(text),
        tool_calls=tuple(calls[index] for index in sorted(calls)),
        finish_reason=finish.reason if finish else None,
        usage=finish.usage if finish else Usage(),
        logprobs=tuple(logprobs),
        model=model,
        backend=backend,
    )


def _extend(call: ToolCall | None, delta: ToolCallDelta) -> ToolCall:
    if call is None:
        return ToolCall(id=delta.id or f"call_{delta.index}", name=delta.name or "", arguments=delta.arguments)
    return call.model_copy(update={"name": delta.name or call.name, "arguments": call.arguments + delta.arguments})
