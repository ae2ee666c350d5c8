"""Asking a server of one's own what it serves: GETs only, within a second, kept for a few seconds."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from pydantic import JsonValue

from llama4sdk.endpoint import Endpoint, Timeouts, is_loopback
from llama4sdk.errors import APIConnectionError, APIError
from llama4sdk_openai.credentials import Access
from llama4sdk_openai.profiles import Profile

__all__ = ["Discoveries", "Served"]

PATIENCE: Final = 1.0
KEPT: Final = 5.0
"""Seconds for which an answer counts."""
LONGEST_CONTEXT: Final = 2**31
ROUTES: Final = {"embed": "embeddings", "chat": "chat/completions", "generate": "completions"}
"""What vLLM has addresses for only where its model was loaded for that."""


@dataclass(frozen=True)
class Served:
    """What a server says of itself. ``names`` are its models, each with the context it has there, if it says."""

    names: dict[str, int | None]
    lacks: frozenset[str] = frozenset()
    """Features that the model it has loaded does not have."""


class Discoveries:
    """What servers answered lately. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, tuple[float, Served]] = {}

    def ask(self, profile: Profile, access: Access, endpoint: Endpoint) -> Served:
        """What is served there. Raises the error of a server that does not answer, or not so."""
        with self._lock:
            known = self._kept.get(access.base)
            if known is None or time.monotonic() - known[0] > KEPT:
                known = (time.monotonic(), _ask(profile, access, endpoint))
                self._kept[access.base] = known
        return known[1]


def _ask(profile: Profile, access: Access, endpoint: Endpoint) -> Served:
    until = time.monotonic() + PATIENCE
    if is_loopback(access.base):
        _knock(access, profile.name)
    if profile.discovery == "tgi":
        info = _object(_get(profile, access, f"{access.root}/info", endpoint, until))
        return Served({str(info.get("model_id") or "tgi"): _context(info.get("max_total_tokens"))})
    if profile.discovery == "lmstudio":
        told = _object(_get(profile, access, f"{access.root}/api/v0/models", endpoint, until))
        return Served({str(one.get("id")): _loaded_context(one) for one in _entries(told)})
    models = _get(profile, access, access.url("/models"), endpoint, until)
    names = {
        str(one.get("id")): _context(one.get("max_model_len") or one.get("context_length")) for one in _entries(models)
    }
    if profile.discovery == "llamacpp":
        return _llamacpp(names, _object(_get(profile, access, f"{access.root}/props", endpoint, until)))
    if profile.discovery == "vllm":
        routes = {feature: access.url(f"/{route}") for feature, route in ROUTES.items()}
        lacks = {name for name, url in routes.items() if _missing(profile, url, access, endpoint, until)}
        return Served(names, frozenset(lacks if len(lacks) < len(routes) else ()))  # what has none just answers no GETs
    return Served(names)


def _missing(profile: Profile, url: str, access: Access, endpoint: Endpoint, until: float) -> bool:
    """Whether there is nothing at an address: what only takes POST answers a GET with 405."""
    try:
        _get(profile, access, url, endpoint, until)
    except APIError as error:
        return error.status == 404
    return False


def _llamacpp(names: Iterable[str], props: dict[str, JsonValue]) -> Served:
    """The context is that of one slot. A template without tools drops them in silence, so they are not offered."""
    lacks = set()
    if _object(props.get("modalities")).get("vision") is not True:
        lacks.add("images")
    if _object(props.get("chat_template_caps")).get("supports_tools") is False:
        lacks |= {"tools", "tool_choice"}
    context = _context(_object(props.get("default_generation_settings")).get("n_ctx"))
    return Served(dict.fromkeys(names, context), frozenset(lacks))


def _knock(access: Access, backend: str) -> None:
    """Whether anybody listens: quicker to learn from a bare socket than by way of an HTTP library."""
    parts = urlsplit(access.base)
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    try:
        socket.create_connection(address, timeout=PATIENCE).close()
    except OSError as error:
        raise APIConnectionError(f"'{backend}' was not reached at {access.base}.", backend=backend) from error


def _get(profile: Profile, access: Access, url: str, endpoint: Endpoint, until: float) -> JsonValue:
    from llama4sdk.remote.clock import Clock
    from llama4sdk.remote.dialect import Call
    from llama4sdk.remote.status_errors import failure
    from llama4sdk.remote.surroundings import Trust
    from llama4sdk.remote.transport import Transport

    left = max(0.05, until - time.monotonic())
    clock = Clock(Timeouts(connect=left, total=left))
    transport = Transport(Trust(endpoint.certificates))
    try:
        with transport.open(Call("GET", url, access.headers), clock, profile.name) as reply:
            if not reply.head.ok:
                told = reply.explanation()
                raise failure(reply.head, told, backend=profile.name, model="", now=time.time())
            body = reply.read()
    finally:
        transport.close()
    try:
        value: JsonValue = json.loads(body)
    except ValueError as error:
        raise APIError(f"'{profile.name}' answered {url} with what is no JSON.", backend=profile.name) from error
    return value


def _entries(value: JsonValue) -> list[dict[str, JsonValue]]:
    """``{"data": [...]}``, or the bare list that some send."""
    listed = value.get("data") if isinstance(value, dict) else value
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _loaded_context(entry: dict[str, JsonValue]) -> int | None:
    return _context(entry.get("loaded_context_length") or entry.get("max_context_length"))


def _context(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and 0 < value < LONGEST_CONTEXT else None
