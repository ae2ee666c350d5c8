"""Bodies of requests for embeddings, and the vectors in the forms that servers send them. Pure."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Sequence
from typing import Final

from pydantic import JsonValue

from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk.events import Usage
from llama4sdk.remote.json_fields import as_object, token_count
from llama4sdk.remote.vectors import checked_embeddings, embedding_error
from llama4sdk.requests import EmbedRequest
from llama4sdk.results import Embeddings
from llama4sdk_openai.profiles import Profile

MAX_INPUTS_PER_CALL: Final = 64

Vector = Sequence[float]


def embed_bodies(request: EmbedRequest, profile: Profile, model: str) -> list[dict[str, JsonValue]]:
    """Return the bodies of as many calls as are needed. Raises UnsupportedFeatureError for what no server would do.

    A server pools as it was started to; ``mean``, the default, leaves that to it.
    """
    if request.pooling != "mean":
        hint = "The server pools as it was started to; leave pooling out."
        raise UnsupportedFeatureError(profile.name, f"pooling='{request.pooling}'", hint=hint)
    if not request.normalize and profile.unnormalized_fields is None:
        raise UnsupportedFeatureError(
            profile.name, "vectors as the model made them", hint="It may normalize them by itself; leave normalize on."
        )
    fields: dict[str, JsonValue] = {} if request.normalize else dict(profile.unnormalized_fields or {})
    starts = range(0, len(request.inputs), MAX_INPUTS_PER_CALL)
    batches = [list[JsonValue](request.inputs[start : start + MAX_INPUTS_PER_CALL]) for start in starts]
    if profile.embeddings == "feature-extraction":
        return [{"inputs": batch, **fields} for batch in batches]
    if profile.embedding_format is not None:
        fields["encoding_format"] = profile.embedding_format
    return [{"model": model, "input": batch, **fields} for batch in batches]


def parse_embeddings(request: EmbedRequest, answers: Sequence[bytes], model: str, backend: str) -> Embeddings:
    """Return the vectors of all answers. Raises APIError unless there is one finite vector for each input."""
    vectors: list[Vector] = []
    counts: list[int | None] = []
    for answer in answers:
        rows, count = _parse_answer(answer, backend)
        vectors.extend(rows)
        counts.append(count)
    known_counts = [count for count in counts if count is not None]
    usage = Usage(input_tokens=sum(known_counts) if len(known_counts) == len(counts) else None)
    return checked_embeddings(request, vectors, usage, model=model, backend=backend)


def _parse_answer(answer: bytes, backend: str) -> tuple[list[Vector], int | None]:
    try:
        value = json.loads(answer)
    except ValueError as error:
        raise embedding_error(backend, "what is no JSON") from error
    if isinstance(value, list):  # feature extraction: the vectors alone
        return [_vector(row, backend) for row in value], None
    entries = value.get("data") if isinstance(value, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise embedding_error(backend, "no data")
    positions = [entry.get("index") for entry in entries]
    if all(isinstance(position, int) for position in positions):
        entries = [entry for _, entry in sorted(zip(positions, entries, strict=True), key=lambda pair: pair[0])]
    return [_vector(entry.get("embedding"), backend) for entry in entries], token_count(
        as_object(value.get("usage")), "prompt_tokens"
    )


def _vector(value: object, backend: str) -> Vector:
    """Return the numbers of a list, or of little-endian 32-bit floats in base64."""
    if isinstance(value, list):
        return value
    try:
        if not isinstance(value, str):
            raise TypeError("neither a list nor text")
        data = base64.b64decode(value, validate=True)
        return struct.unpack(f"<{len(data) // 4}f", data)
    except (binascii.Error, struct.error, TypeError) as error:
        raise embedding_error(backend, "a vector that cannot be read") from error
