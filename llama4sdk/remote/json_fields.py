"""Reads and writes JSON that is exchanged with servers, which may send anything: objects, counts, logprobs. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any, Final

from pydantic import JsonValue
from pydantic_core import from_json

from llama4sdk.errors import InvalidRequestError
from llama4sdk.events import TokenLogprob, TopLogprob

#: Stands for the logarithm of zero, for which servers send null: JSON has no number for it.
ZERO_PROBABILITY_LOGPROB: Final = -9999.0


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


def parse_logprobs(value: object, max_alternatives: int) -> tuple[TokenLogprob, ...]:
    """Return the drawn tokens, each with at most ``max_alternatives`` others, likeliest first.

    Chats have a list of objects, bare (Ollama) or under ``content``; raw text and Together have parallel arrays.
    Raises ValueError for an entry whose log-probability is neither a number nor null.
    """
    content = value.get("content") if isinstance(value, dict) else value
    if isinstance(content, list):
        entries = ((entry, _alternatives(entry.get("top_logprobs"), max_alternatives)) for entry in as_objects(content))
        return tuple(
            TokenLogprob(token=str(entry.get("token", "")), logprob=_entry_number(entry), top=top)
            for entry, top in entries
        )
    if not isinstance(value, dict):
        return ()
    tokens, logprobs, alternatives = value.get("tokens"), value.get("token_logprobs"), value.get("top_logprobs")
    if not isinstance(tokens, list) or not isinstance(logprobs, list):
        return ()
    rows = zip_longest(tokens, logprobs, (alternatives if isinstance(alternatives, list) else ())[: len(tokens)])
    return tuple(
        TokenLogprob(token=str(token), logprob=_number(logprob), top=_alternatives(others, max_alternatives))
        for token, logprob, others in rows
    )


def _alternatives(value: object, limit: int) -> tuple[TopLogprob, ...]:
    """Alternatives given as objects, or as a mapping of token to log-probability."""
    pairs: Iterable[tuple[object, float]]
    if isinstance(value, dict):
        pairs = ((token, _number(logprob)) for token, logprob in value.items())
    else:
        pairs = ((entry.get("token", ""), _entry_number(entry)) for entry in as_objects(value))
    alternatives = [TopLogprob(token=str(token), logprob=logprob) for token, logprob in pairs]
    return tuple(sorted(alternatives, key=lambda alternative: -alternative.logprob)[:limit])


def _entry_number(entry: Mapping[str, Any]) -> float:
    if "logprob" not in entry:
        raise ValueError("a token without its log-probability")
    return _number(entry["logprob"])


def _number(value: object) -> float:
    if value is None:
        return ZERO_PROBABILITY_LOGPROB
    if not isinstance(value, int | float):
        raise ValueError(f"a log-probability that is no number: {value!r:.40}")
    return min(0.0, float(value))
