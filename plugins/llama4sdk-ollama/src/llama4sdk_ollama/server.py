"""What a server says it has. It answers each question within a second, or counts as not there."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

from pydantic import JsonValue
from pydantic_core import from_json

from llama4sdk._values import Value
from llama4sdk.endpoint import Endpoint, RetryPolicy, Timeouts
from llama4sdk.errors import APIError, Llama4Error
from llama4sdk_ollama.address import BACKEND
from llama4sdk_ollama.http_calls import Native, line_to

__all__ = ["Kept", "Model", "Server", "Shown", "look", "show"]

T = TypeVar("T")

PATIENCE: Final = Timeouts(connect=1.0, first_byte=1.0, between=1.0, total=1.0)
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
    tags, running, version = _ask(
        endpoint, ("GET", "/api/tags", None), ("GET", "/api/ps", None), ("GET", "/api/version", None)
    )
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(version.get("version")))
    return Server(
        version=tuple(map(int, numbers.groups())) if numbers else (), models=_models(tags), running=_models(running)
    )


def show(endpoint: Endpoint, name: str) -> Shown:
    """What one model is; the question is a POST by its protocol, and changes nothing. Raises the same."""
    (told,) = _ask(endpoint, ("POST", "/api/show", {"model": name}))
    info, abilities = told.get("model_info"), told.get("capabilities")
    info = info if isinstance(info, dict) else {}
    context = info.get(f"{info.get('general.architecture')}.context_length")
    return Shown(
        context_length=context if isinstance(context, int) and context > 0 else None,
        capabilities=frozenset(map(str, abilities if isinstance(abilities, list) else ())),
    )


def _ask(endpoint: Endpoint, *questions: tuple[str, str, Mapping[str, JsonValue] | None]) -> list[dict[str, JsonValue]]:
    """The answers, in order, within a second each."""
    impatient = endpoint.model_copy(update={"timeouts": PATIENCE, "retry": RetryPolicy(retries=0), "on_attempt": None})
    native = Native(impatient)
    line = line_to(impatient, native)
    try:
        return [_object(line.fetch(native.call(*question))[1], native.url) for question in questions]
    finally:
        line.close()


def _object(answer: bytes, url: str) -> dict[str, JsonValue]:
    try:
        told = from_json(answer)
    except ValueError:
        told = None
    if not isinstance(told, dict):
        raise APIError(f"What answers at {url} is no Ollama server.", backend=BACKEND, hint="Check the address.")
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
