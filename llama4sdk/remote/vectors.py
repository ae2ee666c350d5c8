"""Checks embeddings that servers sent, and normalizes them. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from llama4sdk.errors import APIError
from llama4sdk.events import Usage
from llama4sdk.requests import EmbedRequest
from llama4sdk.results import Embeddings


def checked_embeddings(
    request: EmbedRequest, vectors: Iterable[Iterable[float]], usage: Usage, *, model: str, backend: str
) -> Embeddings:
    """Return the embeddings, of length 1 where the request says so.

    Raises APIError unless there is one vector of finite numbers for each input, all of the same dimension.
    """
    try:
        rows = [tuple(float(number) for number in vector) for vector in vectors]
    except (TypeError, ValueError) as error:
        raise embedding_error(backend, "a vector that cannot be read") from error
    if len(rows) != len(request.inputs) or len({len(row) for row in rows}) != 1:
        fault = f"{len(rows)} vectors for {len(request.inputs)} texts, or of different lengths"
        raise embedding_error(backend, fault)
    if not rows[0] or not all(math.isfinite(number) for row in rows for number in row):
        raise embedding_error(backend, "an empty vector, or one with what is no number")
    if request.normalize:
        rows = [_normalize(row, backend) for row in rows]
    return Embeddings(vectors=tuple(rows), usage=usage, model=model, backend=backend)


def embedding_error(backend: str, fault: str) -> APIError:
    """Return the error of an answer that has no usable embeddings."""
    hint = "Check that its model can embed."
    return APIError(f"'{backend}' embedded texts with {fault}.", backend=backend, hint=hint)


def _normalize(vector: Sequence[float], backend: str) -> tuple[float, ...]:
    length = math.hypot(*vector)
    if length == 0:
        raise embedding_error(backend, "a vector of zeros, which has no direction")
    return tuple(number / length for number in vector)
