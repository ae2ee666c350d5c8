"""A small dialect over server-sent events, in which every fault of a connection can be said.

data: {"text": "Hello"}        more of the answer
data: {"error": "..."}         an error within a 200
data: {"finish": "stop"}       the end
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, AuthenticationError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, TextDelta, Usage
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.remote.sse import ServerSentEvent, SSEDecoder
from llama4sdk.remote.status_errors import status_error
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings

__all__ = ["KEY", "SmallDialect", "SmallReader", "engine", "event", "finish", "hello", "text"]

KEY = "sk-secret-0123456789abcdef"


def event(**fields: object) -> bytes:
    """One event as it is on the wire."""
    return b"data: " + to_json(fields) + b"\n\n"


def text(words: str) -> bytes:
    """More of the answer."""
    return event(text=words)


def finish(reason: str = "stop") -> bytes:
    """The end of the answer."""
    return event(finish=reason)


def hello() -> bytes:
    """A whole answer: "Hello, llama"."""
    return text("Hello") + text(", ") + text("llama") + finish()


class SmallReader(Reader):
    """As plain as a reader can be, and as wary as one must be."""

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._decoder = SSEDecoder()
        self._finish: Finish | None = None

    def feed(self, data: bytes) -> Iterator[Event]:
        for sent in self._decoder.feed(data):
            yield from self._read(sent)

    def end(self) -> Iterator[Event]:
        if not self.done and (last := self._decoder.end()) is not None:
            yield from self._read(last)
        if self._finish is None:
            raise StreamInterruptedError(f"'{self._backend}' ended its answer in the middle.", hint="Ask again.")
        yield self._finish

    def _read(self, sent: ServerSentEvent) -> Iterator[Event]:
        try:
            value: dict[str, Any] = from_json(sent.data)
        except ValueError as error:
            raise APIError(
                f"'{self._backend}' sent what is no JSON.", backend=self._backend, hint="It is damaged."
            ) from error
        if words := value.get("text"):
            yield TextDelta(text=words)
        elif "error" in value:
            raise APIError(f"'{self._backend}' gave up: {value['error']}", backend=self._backend, hint="Ask again.")
        elif "finish" in value and self._finish is None:
            self._finish = Finish(reason=value["finish"], usage=Usage(output_tokens=3))
            self.done = True


class SmallDialect(Dialect):
    """Sends the prompt, and reads events."""

    backend = "small"

    def __init__(self, endpoint: Endpoint) -> None:
        assert endpoint.url is not None
        self._url = endpoint.url
        self._key = endpoint.api_key.get_secret_value() if endpoint.api_key else ""
        self._more = {name: value.get_secret_value() for name, value in endpoint.headers.items()}
        self.remedies: dict[type[Llama4Error], str] = {}
        self.asked: list[frozenset[str]] = []

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, SmallReader]:
        self.asked.append(remedies)
        return self._call("/answer", to_json({"prompt": request.prompt})), SmallReader(self.backend)

    def _call(self, path: str, content: bytes) -> Call:
        return Call("POST", self._url + path, {"Content-Type": "application/json", **self._more}, content)

    def authorize(self, call: Call) -> Call:
        if self._key == "missing":
            raise AuthenticationError("There is no key.", backend=self.backend, hint="Pass api_key.")
        return call.with_headers(Authorization=f"Bearer {self._key}") if self._key else call

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        return status_error(head, body, backend=self.backend, model="scout", now=time.time())

    def remedy(self, error: Llama4Error) -> str | None:
        return self.remedies.get(type(error))

    def secrets(self) -> Sequence[str]:
        return (self._key,)

    def build_embed_calls(self, request: EmbedRequest) -> Sequence[Call]:
        return [self._call("/embed", to_json({"input": one})) for one in request.inputs]

    def read_embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        return Embeddings(vectors=tuple(tuple(from_json(body)) for _, body in answers), model="scout", backend="small")


def engine(url: str, *, retries: int = 0, api_key: str | None = KEY, **settings: Any) -> RemoteEngine:
    """An engine of this dialect. ``settings`` are fields of ``Endpoint``; retries wait for as good as nothing."""
    retry = {"retries": retries, "base": 0.001, "throttled": 0.001, **settings.pop("retry", {})}
    endpoint = Endpoint.model_validate({"url": url, "api_key": api_key, "retry": retry, **settings})
    return RemoteEngine(
        model="scout", context_length=8192, dialect=SmallDialect(endpoint), endpoint=endpoint, cost=lambda usage: 0.5
    )
