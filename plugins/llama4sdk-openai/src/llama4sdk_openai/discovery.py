"""Asks self-hosted servers which models they serve, with GET requests within one second."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import JsonValue

from llama4sdk.endpoint import Endpoint, is_loopback
from llama4sdk.errors import APIConnectionError, APIError, APITimeoutError
from llama4sdk.remote.discovery import impatient
from llama4sdk.remote.json_fields import as_object, as_objects
from llama4sdk_openai.credentials import ResolvedEndpoint
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import Profile

MAX_SECONDS: Final = 1.0

#: Larger numbers mean that there is no limit.
MAX_CONTEXT_LENGTH: Final = 2**31

#: Paths that vLLM has only where its model was loaded for that use.
VLLM_FEATURE_PATHS: Final = {"embed": "/embeddings", "chat": "/chat/completions", "generate": "/completions"}


@dataclass(frozen=True)
class ServerModels:
    """The models of a server with their context lengths, where it names them, and the features they lack."""

    context_lengths: dict[str, int | None]
    lacks: frozenset[str] = frozenset()


def discover_models(profile: Profile, target: ResolvedEndpoint, endpoint: Endpoint) -> ServerModels:
    """Ask a server for its models. Raises the error of a server that does not answer, or not as expected."""
    if is_loopback(target.base_url):
        _check_listening(target, profile.name)
    with closing(_Server(profile, target, endpoint)) as server:
        if profile.discovery == "tgi":
            info = as_object(server.get(f"{target.server_root}/info"))
            return ServerModels({str(info.get("model_id") or "tgi"): _context_length(info.get("max_total_tokens"))})
        if profile.discovery == "lmstudio":
            entries = _entries(server.get(f"{target.server_root}/api/v0/models"))
            return ServerModels(_context_lengths(entries, "loaded_context_length", "max_context_length"))
        models = _context_lengths(_entries(server.get(target.url("/models"))), "max_model_len", "context_length")
        if profile.discovery == "llamacpp":
            return _llamacpp_models(models, as_object(server.get(f"{target.server_root}/props")))
        if profile.discovery == "vllm":
            return ServerModels(models, server.missing_vllm_features())
        return ServerModels(models)


class _Server:
    """Sends GET requests to one server, each within ``MAX_SECONDS``, none after that time."""

    def __init__(self, profile: Profile, target: ResolvedEndpoint, endpoint: Endpoint) -> None:
        from llama4sdk.remote.engine import RemoteEngine
        from llama4sdk_openai.dialect import OpenAIDialect

        self._backend = profile.name
        self._target = target
        self._deadline = time.monotonic() + MAX_SECONDS
        dialect = OpenAIDialect(profile, "", 0, target, Options())
        self._engine = RemoteEngine(
            model="", context_length=0, dialect=dialect, endpoint=impatient(endpoint, MAX_SECONDS)
        )

    def get(self, url: str) -> JsonValue:
        """Return the JSON at an address. Raises APIError."""
        from llama4sdk.remote.dialect import Call

        if time.monotonic() > self._deadline:
            message = f"'{self._backend}' did not say within {MAX_SECONDS:g} s which models it serves."
            raise APITimeoutError(message, phase="total", backend=self._backend, hint="Try again.")
        _, body = self._engine.fetch(Call("GET", url, self._target.headers))
        try:
            value: JsonValue = json.loads(body)
        except ValueError as error:
            message = f"'{self._backend}' answered {url} with what is no JSON."
            raise APIError(message, backend=self._backend) from error
        return value

    def missing_vllm_features(self) -> frozenset[str]:
        """Return the features whose paths do not exist; none for a server that answers no GET at all."""
        missing = {name for name, path in VLLM_FEATURE_PATHS.items() if not self._exists(self._target.url(path))}
        return frozenset(missing if len(missing) < len(VLLM_FEATURE_PATHS) else ())

    def close(self) -> None:
        """Close the connection."""
        self._engine.close()

    def _exists(self, url: str) -> bool:
        """Whether a path exists: one that takes only POST answers a GET with 405."""
        try:
            self.get(url)
        except APIError as error:
            return error.status != 404
        return True


def _check_listening(target: ResolvedEndpoint, backend: str) -> None:
    """Raise APIConnectionError where nothing listens: a bare socket learns it sooner than an HTTP library loads."""
    parts = urlsplit(target.base_url)
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        socket.create_connection(address, timeout=MAX_SECONDS).close()
    except OSError as error:
        raise APIConnectionError(f"'{backend}' was not reached at {target.base_url}.", backend=backend) from error


def _llamacpp_models(names: Iterable[str], props: dict[str, JsonValue]) -> ServerModels:
    """Models of a llama-server; the context is that of one slot.

    A chat template without tools drops them silently, so that they count as lacking.
    """
    lacks = set()
    if as_object(props.get("modalities")).get("vision") is not True:
        lacks.add("images")
    if as_object(props.get("chat_template_caps")).get("supports_tools") is False:
        lacks |= {"tools", "tool_choice"}
    context_length = _context_length(as_object(props.get("default_generation_settings")).get("n_ctx"))
    return ServerModels(dict.fromkeys(names, context_length), frozenset(lacks))


def _entries(value: JsonValue) -> list[dict[str, JsonValue]]:
    """Return the models of ``{"data": [...]}``, or of the bare list that some servers send."""
    return as_objects(value.get("data") if isinstance(value, dict) else value)


def _context_lengths(entries: Iterable[dict[str, JsonValue]], *fields: str) -> dict[str, int | None]:
    return {
        str(entry.get("id")): _context_length(next((entry[name] for name in fields if entry.get(name)), None))
        for entry in entries
    }


def _context_length(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and 0 < value < MAX_CONTEXT_LENGTH else None
