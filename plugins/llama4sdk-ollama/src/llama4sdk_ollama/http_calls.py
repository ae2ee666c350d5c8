"""Calls and errors of Ollama's native API, whatever is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pydantic import JsonValue

from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import AuthenticationError, Llama4Error, UnsupportedFeatureError
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.remote.json_fields import encode_json
from llama4sdk.remote.status_errors import status_error
from llama4sdk.requests import Request
from llama4sdk_ollama.address import BACKEND, server_headers, server_url


class OllamaApi(Dialect):
    """The API at one address; subclasses answer requests."""

    backend = BACKEND

    def __init__(self, endpoint: Endpoint) -> None:
        self.url = server_url(endpoint)
        self._headers = server_headers(endpoint)

    def call(self, method: str, path: str, body: Mapping[str, JsonValue] | None = None) -> Call:
        """Build a call with a JSON body."""
        if body is None:
            return Call(method, f"{self.url}{path}")
        return Call(method, f"{self.url}{path}", {"Content-Type": "application/json"}, encode_json(body))

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        """Refuse: without a model there are no answers."""
        raise UnsupportedFeatureError(BACKEND, "requests without a model")

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        """Return the error of an answer with a status other than 2xx."""
        error = status_error(head, body, backend=BACKEND, model="", now=time.time())
        if head.status == 404:
            error.hint = f"Check the address: {self.url} does not speak Ollama's API."
        return self.with_key_hint(error)

    def with_key_hint(self, error: Llama4Error) -> Llama4Error:
        """Add to an error of authentication where the key is read from."""
        if isinstance(error, AuthenticationError):
            error.hint = "Pass api_key=, or set OLLAMA_API_KEY; a model in Ollama's cloud needs 'ollama signin'."
        return error

    def authorize(self, call: Call) -> Call:
        """Add the endpoint's headers, the key among them."""
        return replace(call, headers={**call.headers, **self._headers})

    def secrets(self) -> Sequence[str]:
        """Return the headers' values."""
        return [value.removeprefix("Bearer ") for value in self._headers.values()]


def api_engine(endpoint: Endpoint, api: OllamaApi) -> RemoteEngine:
    """Return an engine without a model, which sends calls of the API."""
    return RemoteEngine(model="", context_length=0, dialect=api, endpoint=endpoint)
