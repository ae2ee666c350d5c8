"""One server: calls and errors of its API, and what models it has.

It names its models within a second for each call, or counts as unreachable.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic import JsonValue

from llama4sdk._values import Value
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError, AuthenticationError, Llama4Error, UnsupportedFeatureError
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.discovery import impatient
from llama4sdk.remote.engine import RemoteEngine
from llama4sdk.remote.json_fields import as_object, as_objects, decode_object, encode_json, token_count
from llama4sdk.remote.status_errors import status_error
from llama4sdk.requests import Request
from llama4sdk_ollama.address import BACKEND, server_headers, server_url

MAX_SECONDS_PER_CALL: Final = 1.0


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


class ServerModel(Value):
    """A model that the server has, on its disk or in memory."""

    name: str
    #: Bytes.
    size: int = 0
    family: str = ""
    #: As Ollama writes it: ``108.6B``.
    parameter_size: str = ""
    #: The context it was loaded with, where it is in memory, else 0.
    context_length: int = 0


class ServerState(Value):
    """A server at one moment; ``version`` is empty where the server does not say it."""

    version: tuple[int, ...]
    models: tuple[ServerModel, ...]
    running: tuple[ServerModel, ...]

    def loaded(self, name: str) -> ServerModel | None:
        """Return the model as it is in memory, if it is."""
        return next((model for model in self.running if model.name == name), None)


class ModelDetails(Value):
    """The server's description of one model."""

    #: The longest context the model has; ``None`` where the server does not say.
    context_length: int | None
    #: ``completion``, ``tools``, ``vision``, ``embedding``, …; none where the server is too old to say.
    capabilities: frozenset[str]


def inspect_server(endpoint: Endpoint) -> ServerState:
    """Ask for the server's models and version. Raises APIError where no Ollama answers."""
    tags, running, version = _call_all(
        endpoint, ("GET", "/api/tags", None), ("GET", "/api/ps", None), ("GET", "/api/version", None)
    )
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(version.get("version")))
    return ServerState(
        version=tuple(map(int, numbers.groups())) if numbers else (),
        models=tuple(map(_server_model, as_objects(tags.get("models")))),
        running=tuple(map(_server_model, as_objects(running.get("models")))),
    )


def show_model(endpoint: Endpoint, name: str) -> ModelDetails:
    """Ask for one model's description, with a POST that changes nothing. Raises APIError."""
    (answer,) = _call_all(endpoint, ("POST", "/api/show", {"model": name}))
    info, capabilities = as_object(answer.get("model_info")), answer.get("capabilities")
    return ModelDetails(
        context_length=token_count(info, f"{info.get('general.architecture')}.context_length") or None,
        capabilities=frozenset(map(str, capabilities if isinstance(capabilities, list) else ())),
    )


def _call_all(endpoint: Endpoint, *calls: tuple[str, str, Mapping[str, JsonValue] | None]) -> list[dict[str, Any]]:
    """Return the answers in order."""
    endpoint = impatient(endpoint, MAX_SECONDS_PER_CALL)
    api = OllamaApi(endpoint)
    engine = api_engine(endpoint, api)
    try:
        return [_decode(engine.fetch(api.call(*call))[1], api.url) for call in calls]
    finally:
        engine.close()


def _decode(answer: bytes, url: str) -> dict[str, Any]:
    try:
        return decode_object(answer)
    except ValueError:
        raise APIError(
            f"What answers at {url} is no Ollama server.", backend=BACKEND, hint="Check the address."
        ) from None


def _server_model(entry: Mapping[str, Any]) -> ServerModel:
    details = as_object(entry.get("details"))
    size, context_length = entry.get("size"), entry.get("context_length")
    return ServerModel(
        name=str(entry.get("model") or entry.get("name") or ""),
        size=size if isinstance(size, int) else 0,
        family=str(details.get("family") or ""),
        parameter_size=str(details.get("parameter_size") or ""),
        context_length=context_length if isinstance(context_length, int) else 0,
    )
