"""Every exception the SDK raises on purpose.

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
    ├─ DownloadError (OSError)         what was fetched so far is kept for the next try
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

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llama4sdk.batch.items import BatchItem
    from llama4sdk.events import Attempt
    from llama4sdk.messages import Message
    from llama4sdk.plan import Rejection
    from llama4sdk.results import Completion

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
    """What happened, and in ``hint`` what to do about it (``None`` when there is nothing to do).

    ``attempts`` holds every try of a request, where that is known.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.attempts: tuple[Attempt, ...] = ()

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Keyword-only fields survive pickling, so errors cross process borders whole."""
        return _restore, (type(self), self.args, dict(self.__dict__))


def _restore(kind: type[Llama4Error], args: tuple[object, ...], fields: dict[str, object]) -> Llama4Error:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class ConfigurationError(Llama4Error, ValueError):
    """A setting, an argument or a request cannot mean anything."""


class UnknownModelError(ConfigurationError):
    """No model has this name, and it is no path and no repository in the cache."""


class UnknownBackendError(ConfigurationError):
    """No installed plugin brings a backend of this name."""


class UnknownOptionError(ConfigurationError):
    """A keyword that no request has; the hint names the nearest that exists."""


class InvalidRequestError(ConfigurationError):
    """A value out of range, or messages no model could answer."""


class UnsupportedFeatureError(Llama4Error):
    """The backend has declared that it cannot do this; raised before any work."""

    def __init__(self, backend: str, feature: str, *, hint: str | None = None) -> None:
        super().__init__(f"Backend '{backend}' does not support {feature}.", hint=hint)
        self.backend = backend
        self.feature = feature


class ClientClosedError(Llama4Error, RuntimeError):
    """The client was closed before this call."""


class PluginError(Llama4Error):
    """A plugin is at fault; the message names the plugin and its distribution."""


class PluginLoadError(PluginError):
    """The plugin, or the backend class it names, cannot be imported."""


class PluginContractError(PluginError):
    """The plugin loaded, but broke a rule of the contract in ``llama4sdk.backend``."""


class PlanningError(Llama4Error):
    """No plan fits what was asked on this hardware."""


class NoBackendError(PlanningError):
    """Every backend said no; ``rejections`` holds each reason and its fix."""

    def __init__(self, message: str, *, rejections: Sequence[Rejection] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.rejections = tuple(rejections)


class InsufficientMemoryError(NoBackendError):
    """Memory is what stands in the way; ``need`` (of the smallest offer) and ``have`` are bytes."""

    def __init__(
        self,
        message: str,
        *,
        need: int,
        have: int,
        rejections: Sequence[Rejection] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message, rejections=rejections, hint=hint)
        self.need = need
        self.have = have


class BudgetExceededError(PlanningError):
    """A request could cost more than is left of ``Policy(max_cost=...)``; it was not sent.

    ``spent``, ``limit`` and ``needed`` (at most, for this request) are US dollars; ``max_tokens`` is the longest answer
    there would be money for, ``None`` where that is none.
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
    """The backend could not make a running engine of the weights."""


class CheckpointError(ModelLoadError):
    """A checkpoint is truncated, damaged, or of another architecture than expected."""

    def __init__(
        self, message: str, *, hint: str | None = "Fetch the checkpoint again, all of its files, or use another."
    ) -> None:
        super().__init__(message, hint=hint)


class WeightsNotFoundError(BackendError, FileNotFoundError):
    """The weights are not on this machine; the hint is the command that fetches them."""

    def __str__(self) -> str:  # OSError.__str__ would print errno fields
        return Llama4Error.__str__(self)


class DeviceMemoryError(BackendError, MemoryError):
    """The device ran out of memory while loading or running; ``need`` and ``have`` are bytes, where they are known."""

    def __init__(
        self, message: str, *, need: int | None = None, have: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.need = need
        self.have = have


class DownloadError(Llama4Error, OSError):
    """A download failed; no partial file is left under the final name."""

    __str__ = Llama4Error.__str__


class ExportError(Llama4Error, OSError):
    """An export could not be written, or does not compute the same; what is whole of it stays for the next try."""

    __str__ = Llama4Error.__str__


class APIError(Llama4Error):
    """A remote endpoint answered with an error, or did not answer.

    ``retryable`` says whether the same request may succeed later, ``retry_after`` is the endpoint's own wish in
    seconds, and ``partial`` what had arrived of the answer.
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
        self.partial: Completion | None = None


class APIConnectionError(APIError, ConnectionError):
    """No connection to the endpoint."""

    __str__ = Llama4Error.__str__


class APITimeoutError(APIError, TimeoutError):
    """The endpoint did not answer in time; ``phase`` is what took too long.

    It is "connect", "first_byte", "between" two pieces of the answer, or the "total" of everything.
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

    __str__ = Llama4Error.__str__


class AuthenticationError(APIError):
    """The credentials are missing or wrong."""


class PermissionDeniedError(APIError):
    """The credentials are right but may not do this."""


class RateLimitError(APIError):
    """Too many requests, or more than is paid for: the latter is not ``retryable``."""


class OverloadedError(APIError):
    """The endpoint has no capacity at the moment."""


class ModelRetiredError(APIError):
    """The endpoint no longer serves this model."""


class APIStatusError(APIError):
    """Any other error status."""


class ContextLengthError(Llama4Error, ValueError):
    """The prompt, or prompt and ``max_tokens`` together, exceed the context.

    Both are in tokens, and ``None`` where an endpoint refused and did not say.
    """

    def __init__(self, message: str, *, limit: int | None, requested: int | None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.limit = limit
        self.requested = requested


class ContentFilteredError(Llama4Error):
    """A content filter refused the request or the answer."""


class StructuredOutputError(Llama4Error, ValueError):
    """An answer is not the value that ``schema=`` asked for; ``completion`` is the answer, with its text."""

    def __init__(self, message: str, *, completion: Completion, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.completion = completion


class BatchFileError(Llama4Error, OSError):
    """The file of a batch cannot be written any more; ``items`` are those that are done, the unwritten ones, too."""

    def __init__(self, message: str, *, items: Sequence[BatchItem] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.items = tuple(items)

    __str__ = Llama4Error.__str__


class ToolLimitError(Llama4Error):
    """The model went on calling tools past the step limit. ``messages`` is the conversation so far."""

    def __init__(self, message: str, *, messages: Sequence[Message] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.messages = tuple(messages)


class StreamError(Llama4Error):
    """A stream did not run to its end."""


class StreamInterruptedError(StreamError):
    """The stream ended without its finish marker; ``partial`` holds what had arrived."""

    def __init__(self, message: str, *, partial: Completion | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial = partial


class StreamClosedError(StreamError, RuntimeError):
    """The stream, or the client it belongs to, was closed before the stream ended."""
