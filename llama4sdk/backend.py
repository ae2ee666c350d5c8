"""THE CONTRACT between the core and every backend, ours included.

A plugin's hook returns ``BackendInfo`` values. The core imports the class an info names only when it wants an offer,
asks ``Backend.offer`` what it could do, lets the planner choose, and calls ``Backend.load`` once. The resulting
``Engine`` has one mandatory verb, ``stream``. Everything else the client offers is folded from it.

The contract's version changes only when a conforming plugin would break.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar, Final

from pydantic import Field

from llama4sdk._installed import missing
from llama4sdk._values import Value
from llama4sdk.capabilities import Capabilities, Feature
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk.events import Event
from llama4sdk.hardware import Hardware
from llama4sdk.plan import PlacedModel, Plan, Preference
from llama4sdk.progress import Progress
from llama4sdk.quantization import Quantization, QuantizationConfig
from llama4sdk.requests import EmbedRequest, Request, ScoreRequest
from llama4sdk.results import Embeddings, Memory, Scores

__all__ = [
    "CONTRACT_VERSION",
    "Backend",
    "BackendInfo",
    "Capabilities",
    "Engine",
    "Feature",
    "Need",
    "Offer",
    "Unavailable",
]

CONTRACT_VERSION: Final = 1


class PluginClass(Value):
    """The description of a class that a plugin brings. Constructing one must import nothing heavy."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    summary: str
    #: Where the class is: ``package.module:Class``. It is imported on first use.
    cls: str = Field(pattern=r"^[\w.]+:\w+$")
    #: Modules that must be installed to use it.
    requires: tuple[str, ...] = ()
    #: The command that installs what ``requires`` names.
    install: str | None = None
    contract: int = CONTRACT_VERSION

    def missing_modules(self) -> tuple[str, ...]:
        """The modules of ``requires`` that are not installed. Imports none of them."""
        return missing(self.requires)


class BackendInfo(PluginClass):
    """The description of a ``Backend`` subclass, by which it is found."""

    capabilities: Capabilities = Capabilities()
    #: The only models it serves, when it brings its own; empty for a backend that takes any.
    models: tuple[str, ...] = ()

    def knows(self, model: str | None) -> bool:
        """Whether it makes sense to ask for this model; ``None`` leaves the model to the backend."""
        return model is None or not self.models or model in self.models


class Need(Value):
    """The caller's requirements. ``None`` means that the backend may choose."""

    #: A catalogue name, a path, a repository id, or a name the backend declares in ``BackendInfo.models``.
    model: str | None = None
    #: Features that requests will use; the planner rejects an offer that lacks one.
    features: frozenset[Feature] = frozenset()
    #: Languages that requests will be in, as in ``ModelSpec.languages``; the planner checks them.
    languages: frozenset[str] = frozenset()
    #: Tokens of prompt and answer; an offer may have more, never less.
    context_length: int | None = Field(default=None, ge=1)
    #: Conversations at once, each with that context.
    batch: int = Field(default=1, ge=1)
    #: A config only where no scheme means the same; refuse one that you cannot serve exactly.
    quantization: Quantization | QuantizationConfig | None = None
    device: str | None = None
    #: The preference among several ways that the backend has.
    prefer: Preference = "balanced"
    #: The address and key of the server; a backend that runs models itself refuses one.
    endpoint: Endpoint | None = None


class Offer(PlacedModel):
    """A model as a backend would run it."""

    #: Why this quantization, where the backend chose it.
    quantization_reason: str | None = None
    #: The capabilities with this model here, when they are less than those of ``BackendInfo``.
    capabilities: Capabilities | None = None
    #: Why this placement, quantization and context, in one sentence.
    reason: str


class Unavailable(Value):
    """The reason why a backend cannot serve a need, and what would change that."""

    reason: str
    fix: str | None = None
    need_memory: int | None = None
    have_memory: int | None = None
    #: Whether the weights are here but cannot be read: truncated, damaged, or of another architecture.
    damaged: bool = False


class Engine(ABC):
    """A model, loaded and running. Safe to call from several threads; closing twice is harmless."""

    model: str
    context_length: int

    @abstractmethod
    def stream(self, request: Request) -> Iterator[Event]:
        """Answer a request as deltas followed by exactly one ``Finish``.

        The iterator is a generator (or has ``close``): closing it early frees the request's memory.
        Raises ContextLengthError before the first event when the prompt, or the prompt and ``max_tokens``, do not fit
        into the context; ``llama4sdk.local.windows.room_for_answer`` is that rule.
        """

    def astream(self, request: Request) -> AsyncIterator[Event]:
        """Answer a request as an async generator. Only called when ``astream`` is a declared feature."""
        raise UnsupportedFeatureError(type(self).__name__, "astream")

    def embed(self, request: EmbedRequest) -> Embeddings:
        """One vector per input. Only called when ``embed`` is a declared feature."""
        raise UnsupportedFeatureError(type(self).__name__, "embed")

    def count_tokens(self, request: Request) -> int:
        """Tokens the request's input would take. Only called when ``count_tokens`` is a declared feature."""
        raise UnsupportedFeatureError(type(self).__name__, "count_tokens")

    def score(self, request: ScoreRequest, *, progress: Progress | None = None) -> Scores:
        """The log-probability of each token of a text. Only called when ``score`` is a declared feature.

        Long texts are read in the windows of ``llama4sdk.local.windows.windows``; ``progress`` is called repeatedly, in
        the calling thread. Raises ContextLengthError when a window is longer than the context.
        """
        raise UnsupportedFeatureError(type(self).__name__, "score")

    def memory(self) -> Memory:
        """The memory it was measured to take since it began to load; without ``measured`` where it cannot be told."""
        return Memory()

    def close(self) -> None:  # noqa: B027 - an engine that holds nothing has nothing to do
        """Free memory and sockets. Streams still open end with StreamClosedError."""

    async def aclose(self) -> None:
        """Close within an event loop; an engine with sockets in that loop closes them here."""
        import asyncio

        await asyncio.to_thread(self.close)


class Backend(ABC):
    """A way to run models. Constructed without arguments, with no work done."""

    name: ClassVar[str]

    @abstractmethod
    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """Propose how to serve ``need`` on ``hardware``, or say why that is impossible.

        Quick and without side effects: no device is opened, no weights are read (headers may be). ``hardware`` may
        describe another machine than this one.
        """

    @abstractmethod
    def load(self, plan: Plan, *, progress: Progress | None = None) -> Engine:
        """Load the engine that the plan describes. The only slow step.

        ``progress``, where it is given, may be called with the bytes of the weights that are read, and their total.
        Raises ModelLoadError, WeightsNotFoundError or DeviceMemoryError.
        """

    def connect(self, plan: Plan, need: Need, *, progress: Progress | None = None) -> Engine:
        """Load with the caller's need at hand: its endpoint and key, which no plan holds."""
        return self.load(plan, progress=progress)
