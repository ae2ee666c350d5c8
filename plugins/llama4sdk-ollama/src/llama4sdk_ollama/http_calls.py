"""What every call to a server has in common: its address, its headers, and what its errors mean."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import JsonValue

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import AuthenticationError, Llama4Error, UnsupportedFeatureError
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.remote.status_errors import failure
from llama4sdk.requests import Request
from llama4sdk_ollama.address import BACKEND, headers_of, url_of

__all__ = ["Native", "line_to"]


class Native(Dialect):
    """Calls and errors; what is asked, and how answers are read, is for others to say."""

    backend = BACKEND

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = url_of(endpoint)
        self._headers = headers_of(endpoint)

    def call(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> Call:
        """A call with this JSON."""
        if body is None:
            return Call(method, f"{self.url}{path}")
        content = json.dumps(body, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        return Call(method, f"{self.url}{path}", {"Content-Type": "application/json"}, content)

    def ask(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        """Nothing is answered in general."""
        raise UnsupportedFeatureError(BACKEND, "requests without a model")

    def failure(self, head: Head, body: bytes) -> Llama4Error:
        """As any server's, but for where the key is kept."""
        error = failure(head, body, backend=BACKEND, model="", now=time.time())
        if head.status == 404:
            error.hint = f"Check the address: {self.url} does not speak Ollama's API."
        return self.explained(error)

    def explained(self, error: Llama4Error) -> Llama4Error:
        """The error, with where the key is kept if that is what is wrong."""
        if isinstance(error, AuthenticationError):
            error.hint = "Pass api_key=, or set OLLAMA_API_KEY; a model in Ollama's cloud needs 'ollama signin'."
        return error

    def authorize(self, call: Call) -> Call:
        """With the endpoint's headers, the key among them."""
        return replace(call, headers={**call.headers, **self._headers})

    def secrets(self) -> Sequence[str]:
        """The headers' values."""
        return [value.removeprefix("Bearer ") for value in self._headers.values()]


def line_to(endpoint: Endpoint, dialect: Native) -> RemoteEngine:
    """An engine that is only there to send calls."""
    return RemoteEngine(model="", context_length=0, dialect=dialect, endpoint=endpoint)
