"""The values that errors carry. Where a module that defines one raises errors itself, a protocol stands for it here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llama4sdk._values import Value
from llama4sdk.events import Attempt, FinishReason, TokenLogprob, Usage


class Rejection(Value):
    """The reason why a backend could not make an offer, and what would change that."""

    backend: str
    model: str | None
    reason: str
    fix: str | None = None

    def __str__(self) -> str:
        fix = f" Fix: {self.fix}" if self.fix else ""
        return f"not {self.model or 'anything'} on {self.backend}: {self.reason}{fix}"


class ToolCallView(Protocol):
    """A view of ``messages.ToolCall``."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def arguments(self) -> str: ...


class MessageView(Protocol):
    """A view of ``messages.Message``."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> object: ...
    @property
    def text(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[ToolCallView]: ...
    @property
    def tool_call_id(self) -> str | None: ...
    @property
    def name(self) -> str | None: ...


class CompletionView(Protocol):
    """A view of ``results.Completion``."""

    @property
    def text(self) -> str: ...
    @property
    def tool_calls(self) -> Sequence[ToolCallView]: ...
    @property
    def finish_reason(self) -> FinishReason | None: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def logprobs(self) -> Sequence[TokenLogprob]: ...
    @property
    def model(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def attempts(self) -> Sequence[Attempt]: ...
    @property
    def message(self) -> MessageView: ...


class BatchItemView(Protocol):
    """A view of ``batch.items.BatchItem``."""

    @property
    def index(self) -> int: ...
    @property
    def id(self) -> str | None: ...
    @property
    def completion(self) -> CompletionView | None: ...
    @property
    def error(self) -> Exception | None: ...
    @property
    def resumed(self) -> bool: ...
    def result(self) -> CompletionView:
        """Return the completion. Raises the error where there is none."""
