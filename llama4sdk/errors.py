"""The exceptions that the SDK raises on purpose.

    Llama4Error                        every one has .hint and .attempts; each also inherits the fitting builtin
    ├─ ConfigurationError (ValueError)
    │  ├─ UnknownModelError
    │  ├─ UnknownBackendError
    │  ├─ UnknownOptionError
    │  └─ InvalidRequestError
    ├─ UnsupportedFeatureError         raised before any work; names backend and feature
    ├─ ClientClosedError (RuntimeError)
    ├─ PluginError
    │  ├─ PluginLoadError
    │  └─ PluginContractError
    ├─ PlanningError
    │  ├─ NoBackendError               carries every rejection
    │  │  └─ InsufficientMemoryError   carries need and have, in bytes
    │  └─ BudgetExceededError          carries spent, limit and needed, in dollars, and max_tokens that would fit
    ├─ BackendError
    │  ├─ ModelLoadError
    │  │  └─ CheckpointError           the files are damaged, or not what they claim to be
    │  ├─ WeightsNotFoundError (FileNotFoundError)
    │  └─ DeviceMemoryError (MemoryError)
    ├─ DownloadError (OSError)
    ├─ ExportError (OSError)           what was written so far is kept for the next try
    ├─ APIError                        carries backend, status, request_id, retry_after, partial
    │  ├─ APIConnectionError (ConnectionError)
    │  ├─ APITimeoutError (TimeoutError) carries phase
    │  ├─ AuthenticationError
    │  ├─ PermissionDeniedError
    │  ├─ RateLimitError
    │  ├─ OverloadedError
    │  ├─ ModelRetiredError
    │  └─ APIStatusError
    ├─ ContextLengthError (ValueError) carries limit and requested, in tokens
    ├─ ContentFilteredError
    ├─ StructuredOutputError (ValueError) carries the answer
    ├─ BatchFileError (OSError)        carries the items that are done
    ├─ ToolLimitError                  carries the conversation so far
    └─ StreamError
       ├─ StreamInterruptedError       carries what had arrived
       └─ StreamClosedError (RuntimeError)

Anything else that escapes the SDK is a bug in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # the command line's help needs no pydantic
    from collections.abc import Sequence

    from llama4sdk._error_values import BatchItemView, CompletionView, MessageView, Rejection
    from llama4sdk.events import Attempt

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BackendError",
    "BatchFileError",
    "BudgetExceededError",
    "CheckpointError",
    "ClientClosedError",
    "ConfigurationError",
    "ContentFilteredError",
    "ContextLengthError",
    "DeviceMemoryError",
    "DownloadError",
    "ExportError",
    "InsufficientMemoryError",
    "InvalidRequestError",
    "Llama4Error",
    "ModelLoadError",
    "ModelRetiredError",
    "NoBackendError",
    "OverloadedError",
    "PermissionDeniedError",
    "PlanningError",
    "PluginContractError",
    "PluginError",
    "PluginLoadError",
    "RateLimitError",
    "StreamClosedError",
    "StreamError",
    "StreamInterruptedError",
    "StructuredOutputError",
    "ToolLimitError",
    "UnknownBackendError",
    "UnknownModelError",
    "UnknownOptionError",
    "UnsupportedFeatureError",
    "WeightsNotFoundError",
]


class Llama4Error(Exception):
    """The base of the SDK's errors: ``message`` says what happened, ``hint`` what to do about it, if anything.

    ``attempts`` are all attempts of a request, in their order, where they are known.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.attempts: tuple[Attempt, ...] = ()

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all fields, which an exception's own pickling loses where they are keyword-only."""
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(kind: type[Llama4Error], args: tuple[object, ...], fields: dict[str, object]) -> Llama4Error:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigurationError(Llama4Error, ValueError):
    """A setting, an argument or a request is invalid."""


class UnknownModelError(ConfigurationError):
    """The name is neither a known model's nor a path nor a cached repository's."""


class UnknownBackendError(ConfigurationError):
    """No installed plugin provides a backend of this name."""


class UnknownOptionError(ConfigurationError):
    """There is no option of this name; the hint names the nearest that exists."""


class InvalidRequestError(ConfigurationError):
    """A request has a value out of range, or messages that no model could answer."""


class UnsupportedFeatureError(Llama4Error):
    """The backend does not declare this feature or option; raised before any work."""

    def __init__(self, backend: str, feature: str, *, hint: str | None = None) -> None:
        super().__init__(f"Backend '{backend}' does not support {feature}.", hint=hint)
        self.backend = backend
        self.feature = feature


class ClientClosedError(Llama4Error, RuntimeError):
    """The client was closed before this call."""

    def __init__(self, message: str = "This client is closed.", *, hint: str | None = "Make a new Client.") -> None:
        super().__init__(message, hint=hint)


class PluginError(Llama4Error):
    """A plugin is faulty; the message names it and its distribution."""


class PluginLoadError(PluginError):
    """The plugin, or the backend class it names, cannot be imported."""


class PluginContractError(PluginError):
    """The plugin was loaded, but violates the contract in ``llama4sdk.backend``."""


class PlanningError(Llama4Error):
    """No plan fits the request on this hardware."""


class NoBackendError(PlanningError):
    """No backend made a usable offer; ``rejections`` holds the reason of each and its fix."""

    def __init__(self, message: str, *, rejections: Sequence[Rejection] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.rejections = tuple(rejections)


class InsufficientMemoryError(NoBackendError):
    """No backend fits into memory; ``need`` (of the smallest offer) and ``have`` are bytes."""

    def __init__(
        self, message: str, *, need: int, have: int, rejections: Sequence[Rejection] = (), hint: str | None = None
    ) -> None:
        super().__init__(message, rejections=rejections, hint=hint)
        self.need = need
        self.have = have


class BudgetExceededError(PlanningError):
    """A request could cost more than is left of ``Policy(max_cost=...)``; it was not sent.

    ``spent``, ``limit`` and ``needed`` (the most this request may cost) are US dollars. ``max_tokens`` is the longest
    answer that would fit, ``None`` where none does.
    """

    def __init__(
        self,
        message: str,
        *,
        spent: float,
        limit: float,
        needed: float,
        max_tokens: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.spent = spent
        self.limit = limit
        self.needed = needed
        self.max_tokens = max_tokens


class BackendError(Llama4Error):
    """A backend failed while loading or running a model."""


class ModelLoadError(BackendError):
    """The backend could not load the model."""


class CheckpointError(ModelLoadError):
    """A checkpoint is truncated, damaged, or of another architecture than expected."""

    def __init__(
        self, message: str, *, hint: str | None = "Fetch the checkpoint again, all of its files, or use another."
    ) -> None:
        super().__init__(message, hint=hint)


class WeightsNotFoundError(BackendError, FileNotFoundError):
    """The weights are not on this machine; the hint is the command that fetches them."""


class DeviceMemoryError(BackendError, MemoryError):
    """The device ran out of memory while loading or running; ``need`` and ``have`` are bytes, where they are known."""

    def __init__(
        self, message: str, *, need: int | None = None, have: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.need = need
        self.have = have


class DownloadError(Llama4Error, OSError):
    """A download failed; no incomplete file has the final name."""


class ExportError(Llama4Error, OSError):
    """An export could not be written, or computes other values; its complete files stay for the next try."""


class APIError(Llama4Error):
    """A remote endpoint answered with an error, or did not answer.

    ``retryable`` says whether the same request may succeed later, ``retry_after`` how many seconds the endpoint asks
    to wait, and ``partial`` is the part of the answer that had arrived.
    """

    def __init__(
        self,
        message: str,
        *,
        backend: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.backend = backend
        self.status = status
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after = retry_after
        self.partial: CompletionView | None = None


class APIConnectionError(APIError, ConnectionError):
    """The endpoint could not be reached, or the connection broke."""


class APITimeoutError(APIError, TimeoutError):
    """The endpoint did not answer in time.

    ``phase`` took too long: "connect", "first_byte", "between" two pieces of the answer, or the "total" of all.
    """

    def __init__(
        self,
        message: str,
        *,
        phase: Literal["connect", "first_byte", "between", "total"] = "total",
        backend: str | None = None,
        status: int | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, backend=backend, status=status, request_id=request_id, retryable=retryable, hint=hint)
        self.phase = phase


class AuthenticationError(APIError):
    """The credentials are missing or wrong."""


class PermissionDeniedError(APIError):
    """The credentials are right but do not permit this."""


class RateLimitError(APIError):
    """Too many requests, or a quota that is used up: the latter is not ``retryable``."""


class OverloadedError(APIError):
    """The endpoint has no capacity at the moment."""


class ModelRetiredError(APIError):
    """The endpoint no longer serves this model."""


class APIStatusError(APIError):
    """The endpoint answered with any other error status."""


class ContextLengthError(Llama4Error, ValueError):
    """The prompt, or prompt and ``max_tokens`` together, exceed the context.

    ``limit`` and ``requested`` are tokens, ``None`` where an endpoint refused without numbers.
    """

    def __init__(self, message: str, *, limit: int | None, requested: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit
        self.requested = requested


class ContentFilteredError(Llama4Error):
    """A content filter refused the request or the answer."""


class StructuredOutputError(Llama4Error, ValueError):
    """An answer is no valid value of its ``schema=``; ``completion`` is the answer, with its text."""

    def __init__(self, message: str, *, completion: CompletionView, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.completion = completion


class BatchFileError(Llama4Error, OSError):
    """The file of a batch cannot be written; ``items`` are all that are finished, written or not."""

    def __init__(self, message: str, *, items: Sequence[BatchItemView] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.items = tuple(items)


class ToolLimitError(Llama4Error):
    """The model still calls tools at the step limit; ``messages`` are the conversation so far."""

    def __init__(self, message: str, *, messages: Sequence[MessageView] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.messages = tuple(messages)


class StreamError(Llama4Error):
    """A stream did not run to its end."""


class StreamInterruptedError(StreamError):
    """The stream ended without its finish marker; ``partial`` is the part of the answer that had arrived."""

    def __init__(self, message: str, *, partial: CompletionView | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial = partial


class StreamClosedError(StreamError, RuntimeError):
    """The stream, or the client it belongs to, was closed before the stream ended."""
