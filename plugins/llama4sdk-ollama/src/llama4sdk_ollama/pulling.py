"""Lets a server download a model from its library, with progress."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import DownloadError, StreamInterruptedError
from llama4sdk.events import Event, Finish
from llama4sdk.progress import Progress
from llama4sdk.remote.dialect import Call, Reader
from llama4sdk.remote.sse import LineDecoder
from llama4sdk.requests import Request
from llama4sdk_ollama.model_names import library_tag
from llama4sdk_ollama.reader import decode_line
from llama4sdk_ollama.server import OllamaApi, api_engine

RESUME_HINT: Final = "Pull again: what was fetched is kept by the server."


def pull(model: str, *, progress: Progress | None = None, endpoint: Endpoint | None = None) -> str:
    """Let the server download a model, and return the name the server has for it.

    ``progress`` is called with the bytes of all layers that have begun. An interrupted pull is resumed as often as the
    endpoint's ``RetryPolicy`` says. Raises DownloadError where the server says that it failed or does not come to the
    end, APIError where it does not answer.
    """
    endpoint, tag = endpoint or Endpoint(), library_tag(model)
    engine = api_engine(endpoint, _PullApi(endpoint, tag, progress))
    try:
        for _ in engine.stream(Request(prompt=tag)):
            pass
    except StreamInterruptedError as error:
        raise DownloadError(f"Ollama stopped before '{tag}' was there.", hint=RESUME_HINT) from error
    finally:
        engine.close()
    return tag


class _PullApi(OllamaApi):
    """A pull as a request whose answer has no events but its end."""

    def __init__(self, endpoint: Endpoint, tag: str, progress: Progress | None) -> None:
        super().__init__(endpoint)
        self._tag = tag
        self._layers = _LayerProgress(progress)

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        call = self.call("POST", "/api/pull", {"model": self._tag, "stream": True})
        return call, _PullReader(self._tag, self._layers)


class _PullReader(Reader):
    def __init__(self, tag: str, layers: _LayerProgress) -> None:
        self._tag = tag
        self._layers = layers
        self._lines = LineDecoder()

    def feed(self, data: bytes) -> Iterable[Event]:
        for line in self._lines.feed(data):
            self._read_line(line)
        return ()

    def end(self) -> Iterable[Event]:
        self._read_line(self._lines.end())
        if not self.done:
            raise StreamInterruptedError("The pull ended in its middle.", hint=RESUME_HINT)
        return (Finish(reason="stop"),)

    def _read_line(self, line: bytes) -> None:
        if not line.strip():
            return
        status = decode_line(line)
        if error := status.get("error"):
            raise DownloadError(f"Ollama could not fetch '{self._tag}': {str(error).rstrip('.')}.", hint=RESUME_HINT)
        self._layers.update(status)
        self.done = self.done or status.get("status") == "success"


class _LayerProgress:
    """Sums the bytes of all layers; of a layer that begins again, its most bytes so far still count."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._completed: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def update(self, status: Mapping[str, Any]) -> None:
        digest, completed, total = status.get("digest"), status.get("completed") or 0, status.get("total")
        if not (isinstance(digest, str) and isinstance(total, int) and isinstance(completed, int)):
            return
        self._completed[digest] = max(completed, self._completed.get(digest, 0))
        self._total[digest] = total
        if self._progress is not None:
            self._progress(sum(self._completed.values()), sum(self._total.values()))
