"""Asks a server for its models. It answers each call within a second, or counts as unreachable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import JsonValue

from llama4sdk._values import Value
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import APIError
from llama4sdk.remote.discovery import impatient
from llama4sdk.remote.json_fields import as_object, as_objects, decode_object, token_count
from llama4sdk_ollama.address import BACKEND
from llama4sdk_ollama.http_calls import OllamaApi, api_engine

MAX_SECONDS_PER_CALL: Final = 1.0


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
