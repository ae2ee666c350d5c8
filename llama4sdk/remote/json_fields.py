"""Reads and writes JSON that is exchanged with servers, which may send anything. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue
from pydantic_core import from_json

from llama4sdk.errors import InvalidRequestError


def as_object(value: object) -> dict[str, Any]:
    """Return the value where it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_objects(value: object) -> list[dict[str, Any]]:
    """Return the objects of a list; none where it is no list."""
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def decode_object(data: bytes) -> dict[str, Any]:
    """Decode a JSON object. Raises ValueError for anything else, unpaired surrogates included."""
    value = from_json(data)
    if not isinstance(value, dict):
        raise ValueError("JSON that is no object")
    return value


def encode_json(body: Mapping[str, JsonValue]) -> bytes:
    """Encode a request's body. Raises InvalidRequestError for text with unpaired surrogates."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            "The request has halves of characters, which no encoding can carry.", hint="Look where its text is cut."
        ) from error


def token_count(fields: Mapping[str, Any], name: str) -> int | None:
    """Return a field that counts tokens; ``None`` where it is missing, negative or no integer."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
