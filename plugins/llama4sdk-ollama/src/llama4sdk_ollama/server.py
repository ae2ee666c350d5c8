"""What a server says it has. It answers within a second, or counts as not there."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from pydantic import JsonValue
from pydantic_core import from_json

from llama4sdk._values import Value
from llama4sdk.errors import APIError, Llama4Error
from llama4sdk.remote.clock import Clock
from llama4sdk.remote.dialect import Call
from llama4sdk.remote.endpoint import Endpoint, Timeouts
from llama4sdk.remote.failures import failure
from llama4sdk.remote.transport import Transport
from llama4sdk_ollama.address import BACKEND, headers_of, url_of

__all__ = ["Kept", "Model", "Server", "Shown", "look", "show"]

T = TypeVar("T")

PATIENCE: Final = Timeouts(connect=1.0, first_byte=1.0, between=1.0, total=1.0)
LARGEST: Final = 8 * 2**20
FRESH: Final = 3.0
"""Seconds for which an answer is taken to hold: about as long as one plan takes."""


class Model(Value):
    """One that the server has, on its disk or in memory."""

    name: str
    size: int = 0
    """Bytes."""
    family: str = ""
    parameter_size: str = ""
    """As Ollama writes it: ``108.6B``."""
    context_length: int = 0
    """What it was loaded with, where it is in memory."""


class Server(Value):
    """A server at one moment."""

    version: tuple[int, ...]
    """Empty where it does not say."""
    models: tuple[Model, ...]
    running: tuple[Model, ...]

    def loaded(self, name: str) -> Model | None:
        """The model as it is in memory, if it is."""
        return next((model for model in self.running if model.name == name), None)


class Shown(Value):
    """What the server says of one model."""

    context_length: int | None
    """The model's own; ``None`` where it is not said."""
    capabilities: frozenset[str]
    """``completion``, ``tools``, ``vision``, ``embedding``, …; none where the server is too old to say."""


class Kept(Generic[T]):
    """Answers for as long as they are fresh, errors included: a server that is not there is waited for only once."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, ...], tuple[float, T | Llama4Error]] = {}
        self._lock = threading.Lock()

    def get(self, key: tuple[str, ...], ask: Callable[[], T]) -> T:
        """The answer to this question."""
        with self._lock:
            until, answer = self._answers.get(key, (0.0, None))
        if answer is None or time.monotonic() > until:
            try:
                answer = ask()
            except Llama4Error as error:
                answer = error
            with self._lock:
                self._answers[key] = (time.monotonic() + FRESH, answer)
        if isinstance(answer, Llama4Error):
            raise answer
        return answer


def look(endpoint: Endpoint) -> Server:
    """What the server has. Raises APIError where nothing answers, or something that is no Ollama."""
    with _Line(endpoint) as line:
        models = _models(line.ask("GET", "/api/tags"))
        running = _models(line.ask("GET", "/api/ps"))
        version = line.ask("GET", "/api/version").get("version")
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(version))
    return Server(version=tuple(map(int, numbers.groups())) if numbers else (), models=models, running=running)


def show(endpoint: Endpoint, name: str) -> Shown:
    """What one model is; the request is a POST by its protocol, and changes nothing. Raises the same."""
    with _Line(endpoint) as line:
        told = line.ask("POST", "/api/show", {"model": name})
    info, abilities = told.get("model_info"), told.get("capabilities")
    info = info if isinstance(info, dict) else {}
    context = info.get(f"{info.get('general.architecture')}.context_length")
    return Shown(
        context_length=context if isinstance(context, int) and context > 0 else None,
        capabilities=frozenset(map(str, abilities if isinstance(abilities, list) else ())),
    )


class _Line:
    """A connection to the server, for one second."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._url, self._headers = url_of(endpoint), headers_of(endpoint)
        self._transport = Transport(certificates=endpoint.certificates)
        self._clock = Clock(PATIENCE)

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    def ask(self, method: str, path: str, body: JsonValue = None) -> dict[str, JsonValue]:
        content = b"" if body is None else json.dumps(body).encode()
        call = Call(method, f"{self._url}{path}", self._headers, content)
        with self._transport.open(call, self._clock, BACKEND) as reply:
            answer = reply.read(LARGEST)
            if not reply.head.ok:
                raise failure(reply.head, answer, backend=BACKEND, model="", now=time.time())
        try:
            told = from_json(answer)
        except ValueError:
            told = None
        if not isinstance(told, dict):
            raise APIError(f"What answers at {self._url} is no Ollama server.", backend=BACKEND, hint="Check its port.")
        return told


def _models(told: dict[str, JsonValue]) -> tuple[Model, ...]:
    found = told.get("models")
    return tuple(_model(entry) for entry in (found if isinstance(found, list) else ()) if isinstance(entry, dict))


def _model(entry: dict[str, JsonValue]) -> Model:
    details = entry.get("details")
    details = details if isinstance(details, dict) else {}
    size, context = entry.get("size"), entry.get("context_length")
    return Model(
        name=str(entry.get("model") or entry.get("name") or ""),
        size=size if isinstance(size, int) else 0,
        family=str(details.get("family") or ""),
        parameter_size=str(details.get("parameter_size") or ""),
        context_length=context if isinstance(context, int) else 0,
    )
