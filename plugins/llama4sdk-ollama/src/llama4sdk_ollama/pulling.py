"""Fetching a model, on the server's side."""

from __future__ import annotations

import json
import time
from typing import Final

from pydantic import JsonValue

from llama4sdk.errors import DownloadError
from llama4sdk.progress import Progress
from llama4sdk.remote.clock import Clock
from llama4sdk.remote.dialect import Call
from llama4sdk.remote.endpoint import Endpoint
from llama4sdk.remote.failures import failure
from llama4sdk.remote.framing import LineDecoder
from llama4sdk.remote.transport import Transport
from llama4sdk_ollama.address import BACKEND, headers_of, url_of
from llama4sdk_ollama.names import tag_of
from llama4sdk_ollama.reader import read_line

__all__ = ["pull"]

LARGEST_ERROR: Final = 2**20
AGAIN: Final = "Pull again: what was fetched is kept by the server."


def pull(model: str, *, progress: Progress | None = None, endpoint: Endpoint | None = None) -> str:
    """Let the server fetch a model from its library; gives the name the server has for it.

    ``progress`` is told the bytes of all layers that have begun. Raises DownloadError where the server says that it
    failed, or stops before the end; APIError where it does not answer.
    """
    place, tag = endpoint or Endpoint(), tag_of(model)
    content = json.dumps({"model": tag, "stream": True}).encode()
    call = Call("POST", f"{url_of(place)}/api/pull", {**headers_of(place), "Content-Type": "application/json"}, content)
    layers, lines, done = _Layers(progress), LineDecoder(), False
    transport = Transport(certificates=place.certificates)
    try:
        with transport.open(call, Clock(place.timeouts), BACKEND) as reply:
            if not reply.head.ok:
                raise failure(reply.head, reply.read(LARGEST_ERROR), backend=BACKEND, model=tag, now=time.time())
            for data in reply.chunks():
                for line in filter(bytes.strip, lines.feed(data)):
                    done = layers.take(read_line(line), tag) or done
            if rest := lines.end().strip():
                done = layers.take(read_line(rest), tag) or done
    finally:
        transport.close()
    if not done:
        raise DownloadError(f"Ollama stopped before '{tag}' was there.", hint=AGAIN)
    return tag


class _Layers:
    """How much of each layer is there."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def take(self, told: dict[str, JsonValue], tag: str) -> bool:
        """One line; whether it is the last."""
        if error := told.get("error"):
            raise _refused(tag, str(error))
        digest, done, total = told.get("digest"), told.get("completed") or 0, told.get("total")
        if isinstance(digest, str) and isinstance(total, int) and isinstance(done, int):
            self._done[digest] = max(done, self._done.get(digest, 0))
            self._total[digest] = total
            if self._progress is not None:
                self._progress(sum(self._done.values()), sum(self._total.values()))
        return told.get("status") == "success"


def _refused(tag: str, why: str) -> DownloadError:
    return DownloadError(f"Ollama could not fetch '{tag}': {why.rstrip('.')}.", hint=AGAIN)
