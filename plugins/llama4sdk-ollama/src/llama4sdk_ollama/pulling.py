"""Fetching a model, on the server's side."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pydantic import JsonValue

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import DownloadError, StreamInterruptedError
from llama4sdk.events import Event, Finish
from llama4sdk.progress import Progress
from llama4sdk.remote.dialect import Call, Reader
from llama4sdk.remote.sse import LineDecoder
from llama4sdk.requests import Request
from llama4sdk_ollama.http_calls import Native, line_to
from llama4sdk_ollama.model_names import tag_of
from llama4sdk_ollama.reader import read_line

__all__ = ["pull"]

AGAIN: Final = "Pull again: what was fetched is kept by the server."


def pull(model: str, *, progress: Progress | None = None, endpoint: Endpoint | None = None) -> str:
    """Let the server fetch a model from its library; gives the name the server has for it.

    ``progress`` is told the bytes of all layers that have begun. An interrupted pull is taken up again, as often as the
    endpoint's ``RetryPolicy`` says. Raises DownloadError where the server says that it failed or does not come to the
    end, APIError where it does not answer.
    """
    place, tag = endpoint or Endpoint(), tag_of(model)
    line = line_to(place, _Pull(place, tag, progress))
    try:
        for _ in line.stream(Request(prompt=tag)):
            pass
    except StreamInterruptedError as error:
        raise DownloadError(f"Ollama stopped before '{tag}' was there.", hint=AGAIN) from error
    finally:
        line.close()
    return tag


class _Pull(Native):
    """A pull as a request whose answer has no events."""

    def __init__(self, endpoint: Endpoint, tag: str, progress: Progress | None) -> None:
        super().__init__(endpoint)
        self._tag = tag
        self._layers = _Layers(progress)

    def ask(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        return self.call("POST", "/api/pull", {"model": self._tag, "stream": True}), _Pulling(self._tag, self._layers)


class _Pulling(Reader):
    def __init__(self, tag: str, layers: _Layers) -> None:
        self._tag = tag
        self._layers = layers
        self._lines = LineDecoder()

    def feed(self, data: bytes) -> Iterable[Event]:
        for line in self._lines.feed(data):
            self._take(line)
        return ()

    def end(self) -> Iterable[Event]:
        self._take(self._lines.end())
        if not self.done:
            raise StreamInterruptedError("The pull ended in its middle.", hint=AGAIN)
        return (Finish(reason="stop"),)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        told = read_line(line)
        if error := told.get("error"):
            raise DownloadError(f"Ollama could not fetch '{self._tag}': {str(error).rstrip('.')}.", hint=AGAIN)
        self._layers.take(told)
        self.done = self.done or told.get("status") == "success"


class _Layers:
    """How much of each layer is there; of one that begins again, what was there before still counts."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def take(self, told: dict[str, JsonValue]) -> None:
        digest, done, total = told.get("digest"), told.get("completed") or 0, told.get("total")
        if not (isinstance(digest, str) and isinstance(total, int) and isinstance(done, int)):
            return
        self._done[digest] = max(done, self._done.get(digest, 0))
        self._total[digest] = total
        if self._progress is not None:
            self._progress(sum(self._done.values()), sum(self._total.values()))
