"""THE CONTRACT of one wire protocol: requests become bytes, bytes become events. Nothing here opens a connection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from llama4sdk.errors import Llama4Error, UnsupportedFeatureError
from llama4sdk.events import Event
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request. ``url`` is sent as it is, with everything percent-encoded that must be."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)

    def with_headers(self, **headers: str) -> Self:
        """Return the call with more headers."""
        return replace(self, headers={**self.headers, **headers})


@dataclass(frozen=True, slots=True)
class Head:
    """The status and headers of an answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether an answer follows, and no error."""
        return 200 <= self.status < 300

    @property
    def request_id(self) -> str | None:
        """The endpoint's own id of this request, for its operators."""
        names = ("x-request-id", "x-amzn-requestid", "request-id", "apim-request-id", "cf-ray")
        return next((self.headers[name] for name in names if name in self.headers), None)


class Reader(ABC):
    """Turns one answer's bytes into events, however the network cut them."""

    #: Whether the answer is complete, so that nothing more needs to be waited for.
    done: bool = False

    def begin(self, head: Head) -> None:  # noqa: B027 - few need it
        """Take the answer's status and headers."""

    @abstractmethod
    def feed(self, data: bytes) -> Iterable[Event]:
        """Return the events that these bytes complete, without the ``Finish``. Raises an error within the answer."""

    @abstractmethod
    def end(self) -> Iterable[Event]:
        """Return the remaining events at the end of the body, the ``Finish`` last.

        Raises StreamInterruptedError for an answer that is not complete.
        """


class Dialect(ABC):
    """The protocol of one kind of endpoint. Holds no state of a request; used by several threads at once."""

    #: The backend that errors name.
    backend: str

    @property
    def authorize_blocks(self) -> bool:
        """Whether ``authorize`` may now read files or ask another server; an event loop then gives it a thread."""
        return False

    @abstractmethod
    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        """Return a request's call and the reader of its answer; ``remedies`` are those that earlier errors named."""

    @abstractmethod
    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        """Return the error of an answer with a status other than 2xx."""

    def authorize(self, call: Call) -> Call:
        """Return the call with credentials; called before every attempt, since signatures and tokens expire."""
        return call

    def remedy(self, error: Llama4Error) -> str | None:
        """Name what may help against this error at once; each remedy is tried only once for a request."""
        return None

    def secrets(self) -> Sequence[str]:
        """Return the strings that no message may show."""
        return ()

    def build_embed_calls(self, request: EmbedRequest) -> Sequence[Call]:
        """Return the calls that embed these inputs, in their order."""
        raise UnsupportedFeatureError(self.backend, "embeddings")

    def read_embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """Return the embeddings in the answers to those calls."""
        raise UnsupportedFeatureError(self.backend, "embeddings")

    def build_count_call(self, request: Request) -> Call:
        """Return the call that counts a request's tokens."""
        raise UnsupportedFeatureError(self.backend, "counting tokens")

    def read_count(self, head: Head, body: bytes) -> int:
        """Return the number of tokens in the answer to that call."""
        raise UnsupportedFeatureError(self.backend, "counting tokens")
