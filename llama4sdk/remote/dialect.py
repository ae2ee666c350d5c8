"""THE CONTRACT of one wire protocol. Nothing here opens a connection: requests become bytes, bytes become events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from llama4sdk.errors import Llama4Error, UnsupportedFeatureError
from llama4sdk.events import Event
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings

__all__ = ["Call", "Dialect", "Head", "Reader"]


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. ``url`` is sent as it is: whatever must be percent-encoded is."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)

    def with_headers(self, **headers: str) -> Self:
        """The same with more; an underscore stands for a hyphen."""
        added = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **added})


@dataclass(frozen=True, slots=True)
class Head:
    """What stands before an answer's body; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether an answer follows, and no error."""
        return 200 <= self.status < 300

    @property
    def request_id(self) -> str | None:
        """What the endpoint's operators would find this exchange by."""
        names = ("x-request-id", "x-amzn-requestid", "request-id", "apim-request-id", "cf-ray")
        return next((self.headers[name] for name in names if name in self.headers), None)


class Reader(ABC):
    """Makes events of one answer's bytes, however they were cut on their way."""

    done: bool = False
    """Whether the answer is complete, so that nothing more needs to be waited for."""

    def begin(self, head: Head) -> None:  # noqa: B027 - few need it
        """Told what stands before the body."""

    @abstractmethod
    def feed(self, data: bytes) -> Iterable[Event]:
        """The events these bytes complete, without the ``Finish``. Raises the error an answer may hold."""

    @abstractmethod
    def end(self) -> Iterable[Event]:
        """What is left when the body has ended; the ``Finish`` last.

        Raises StreamInterruptedError for an answer that is not complete.
        """


class Dialect(ABC):
    """How one kind of endpoint is spoken to. Holds no state of a request; used by several threads at once."""

    backend: str
    """Whose errors these are."""

    @property
    def waits(self) -> bool:
        """Whether ``authorize`` may now read files or ask another server; an event loop then gives it a thread."""
        return False

    @abstractmethod
    def ask(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        """How a request is sent, and who reads its answer. ``tried`` are the remedies in use."""

    @abstractmethod
    def failure(self, head: Head, body: bytes) -> Llama4Error:
        """What a status other than 2xx means."""

    def authorize(self, call: Call) -> Call:
        """The call with credentials; asked before every try, since signatures and tokens expire."""
        return call

    def remedy(self, error: Llama4Error) -> str | None:
        """The name of what may help against this error at once; each is tried only once for a request."""
        return None

    def secrets(self) -> Sequence[str]:
        """What must not appear in any message."""
        return ()

    def embed(self, request: EmbedRequest) -> Sequence[Call]:
        """The calls that embed these inputs, in their order."""
        raise UnsupportedFeatureError(self.backend, "embeddings")

    def embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """What the answers to those calls give."""
        raise UnsupportedFeatureError(self.backend, "embeddings")

    def count(self, request: Request) -> Call:
        """The call that counts a request's tokens."""
        raise UnsupportedFeatureError(self.backend, "counting tokens")

    def counted(self, head: Head, body: bytes) -> int:
        """What the answer to that call says."""
        raise UnsupportedFeatureError(self.backend, "counting tokens")
