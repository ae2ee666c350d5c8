"""Embeddings: what is sent, and vectors in the forms that servers send them. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from llama4sdk.errors import APIError, UnsupportedFeatureError
from llama4sdk.events import Usage
from llama4sdk.requests import EmbedRequest
from llama4sdk.results import Embeddings
from llama4sdk_openai.profiles import Profile

__all__ = ["bodies", "read"]

AT_ONCE: Final = 64
"""Inputs of one call."""

Vector = tuple[float, ...]


def bodies(request: EmbedRequest, profile: Profile, model: str) -> list[dict[str, JsonValue]]:
    """The bodies of as many calls as are needed. Raises UnsupportedFeatureError for what no server would do.

    A server pools as it was started to; ``mean``, the default, leaves that to it.
    """
    if request.pooling != "mean":
        hint = "The server pools as it was started to; leave pooling out."
        raise UnsupportedFeatureError(profile.name, f"pooling='{request.pooling}'", hint=hint)
    if not request.normalize and profile.raw_vectors is None:
        raise UnsupportedFeatureError(
            profile.name, "vectors as the model made them", hint="It may normalize them by itself; leave normalize on."
        )
    extra: dict[str, JsonValue] = {} if request.normalize else dict(profile.raw_vectors or {})
    parts = [request.inputs[start : start + AT_ONCE] for start in range(0, len(request.inputs), AT_ONCE)]
    if profile.embeddings == "feature-extraction":
        return [{"inputs": list(part), **extra} for part in parts]
    if profile.embedding_format is not None:
        extra["encoding_format"] = profile.embedding_format
    return [{"model": model, "input": list(part), **extra} for part in parts]


def read(request: EmbedRequest, answers: Sequence[bytes], model: str, backend: str) -> Embeddings:
    """The vectors of all answers. Raises APIError for an answer that has not one finite vector for each input."""
    vectors: list[Vector] = []
    counts: list[int | None] = []
    for answer in answers:
        found, count = _vectors(answer, backend)
        vectors.extend(found)
        counts.append(count)
    if len(vectors) != len(request.inputs) or len({len(vector) for vector in vectors}) != 1:
        raise _wrong(backend, f"{len(vectors)} vectors for {len(request.inputs)} texts, or of different lengths")
    if request.normalize:
        vectors = [_unit(vector, backend) for vector in vectors]
    known = [count for count in counts if count is not None]
    usage = Usage(input_tokens=sum(known) if len(known) == len(counts) else None)
    return Embeddings(vectors=tuple(vectors), usage=usage, model=model, backend=backend)


def _vectors(answer: bytes, backend: str) -> tuple[list[Vector], int | None]:
    try:
        told = json.loads(answer)
    except ValueError as error:
        raise _wrong(backend, "what is no JSON") from error
    if isinstance(told, list):  # feature extraction: the vectors alone
        return [_vector(one, backend) for one in told], None
    entries = told.get("data") if isinstance(told, dict) else None
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise _wrong(backend, "no data")
    ordered = sorted(enumerate(entries), key=lambda pair: _place(pair[1].get("index"), pair[0]))
    usage = told.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return [_vector(one.get("embedding"), backend) for _, one in ordered], count if isinstance(count, int) else None


def _place(index: object, otherwise: int) -> int:
    return index if isinstance(index, int) else otherwise


def _vector(value: object, backend: str) -> Vector:
    """Numbers, or 32-bit floats in base64, little end first."""
    try:
        if isinstance(value, str):
            data = base64.b64decode(value, validate=True)
            vector = struct.unpack(f"<{len(data) // 4}f", data)
        elif isinstance(value, list):
            vector = tuple(float(number) for number in value)
        else:
            raise TypeError("neither a list nor text")
    except (binascii.Error, struct.error, TypeError, ValueError) as error:
        raise _wrong(backend, "a vector that cannot be read") from error
    if not vector or not all(map(math.isfinite, vector)):
        raise _wrong(backend, "an empty vector, or one with what is no number")
    return vector


def _unit(vector: Vector, backend: str) -> Vector:
    length = math.hypot(*vector)
    if length == 0:
        raise _wrong(backend, "a vector of zeros, which has no direction")
    return tuple(number / length for number in vector)


def _wrong(backend: str, what: str) -> APIError:
    return APIError(f"'{backend}' embedded texts with {what}.", backend=backend, hint="Check that its model can embed.")
