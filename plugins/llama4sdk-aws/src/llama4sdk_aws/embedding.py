"""Embedding models on Bedrock: Titan takes one text a call, Cohere up to 96. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from llama4sdk.errors import APIError, UnsupportedFeatureError
from llama4sdk.events import Usage
from llama4sdk.requests import EmbedRequest
from llama4sdk_aws.converse_stream import number, parsed
from llama4sdk_aws.models import Family
from llama4sdk_aws.options import BedrockOptions

__all__ = ["embed_bodies", "vectors"]

BATCH: Final = 96


def embed_bodies(model: str, kind: Family, request: EmbedRequest, options: BedrockOptions) -> list[bytes]:
    """One body for each call. Raises UnsupportedFeatureError for pooling of one's own."""
    if request.pooling != "mean":
        raise UnsupportedFeatureError(
            "bedrock", f"pooling='{request.pooling}'", hint="The embedding model pools as it was trained to."
        )
    make = _titan if kind == "titan" else _cohere
    size = 1 if kind == "titan" else BATCH
    inputs = request.inputs
    return [
        json.dumps(make(model, inputs[at : at + size], request, options)).encode() for at in range(0, len(inputs), size)
    ]


def vectors(
    request: EmbedRequest, answers: Sequence[tuple[Mapping[str, str], bytes]], backend: str
) -> tuple[tuple[tuple[float, ...], ...], Usage]:
    """The vectors of all answers in their order, and what was read for them. Raises APIError for too few or many."""
    found: list[tuple[float, ...]] = []
    read: int | None = 0
    for headers, body in answers:
        answer = parsed(body, backend)
        rows = [answer["embedding"]] if answer.get("embedding") else _rows(answer)
        if not rows:
            why = answer.get("message") or "no vectors"
            raise APIError(f"'{backend}' answered without an embedding: {why}.", backend=backend)
        found += [tuple(map(float, row)) for row in rows]
        count = number(answer, "inputTextTokenCount")
        written = headers.get("x-amzn-bedrock-input-token-count", "")
        count = int(written) if count is None and written.isdecimal() else count
        read = None if read is None or count is None else read + count
    if len(found) != len(request.inputs):
        raise APIError(f"'{backend}' gave {len(found)} vectors for {len(request.inputs)} texts.", backend=backend)
    return tuple(map(_normal, found) if request.normalize else found), Usage(input_tokens=read)


def _titan(model: str, texts: Sequence[str], request: EmbedRequest, options: BedrockOptions) -> dict[str, JsonValue]:
    body: dict[str, JsonValue] = {"inputText": texts[0]}
    if "embed-image" in model:
        if options.dimensions is not None:
            body["embeddingConfig"] = {"outputEmbeddingLength": options.dimensions}
    elif "text-v2" in model:
        body["normalize"] = request.normalize
        if options.dimensions is not None:
            body["dimensions"] = options.dimensions
    return body


def _cohere(model: str, texts: Sequence[str], request: EmbedRequest, options: BedrockOptions) -> dict[str, JsonValue]:
    body: dict[str, JsonValue] = {
        "texts": list(texts),
        "input_type": options.input_type,
        "truncate": "NONE",
        "embedding_types": ["float"],
    }
    if "embed-v4" in model and options.dimensions is not None:
        body["output_dimension"] = options.dimensions
    return body


def _rows(answer: dict[str, Any]) -> list[Any]:
    """Cohere's: a list, or lists by type."""
    rows = answer.get("embeddings")
    rows = rows.get("float") if isinstance(rows, dict) else rows
    return rows if isinstance(rows, list) else []


def _normal(vector: tuple[float, ...]) -> tuple[float, ...]:
    length = math.hypot(*vector)
    return tuple(value / length for value in vector) if length else vector
