"""Embedding models on Bedrock: Titan takes one text a call, Cohere up to 96. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pydantic import JsonValue

from llama4sdk.errors import APIError, UnsupportedFeatureError
from llama4sdk.events import Usage
from llama4sdk.remote.json_fields import encode_json, token_count
from llama4sdk.remote.vectors import checked_embeddings
from llama4sdk.requests import EmbedRequest
from llama4sdk.results import Embeddings
from llama4sdk_aws.converse_stream import decode_answer
from llama4sdk_aws.models import ModelFamily
from llama4sdk_aws.options import BedrockOptions

MAX_COHERE_TEXTS: Final = 96

Body = dict[str, JsonValue]


def embed_bodies(model: str, family: ModelFamily, request: EmbedRequest, options: BedrockOptions) -> list[bytes]:
    """Return one body for each call. Raises UnsupportedFeatureError for any pooling but the model's."""
    if request.pooling != "mean":
        raise UnsupportedFeatureError(
            "bedrock", f"pooling='{request.pooling}'", hint="The embedding model pools as it was trained to."
        )
    inputs = request.inputs
    if family == "titan":
        return [encode_json(_titan_body(model, text, options, normalize=request.normalize)) for text in inputs]
    batches = [inputs[start : start + MAX_COHERE_TEXTS] for start in range(0, len(inputs), MAX_COHERE_TEXTS)]
    return [encode_json(_cohere_body(model, batch, options)) for batch in batches]


def parse_embeddings(
    request: EmbedRequest, answers: Sequence[tuple[Mapping[str, str], bytes]], *, model: str, backend: str
) -> Embeddings:
    """Return the vectors of all answers, given as headers and body. Raises APIError for too few or many."""
    vectors: list[Any] = []
    counts: list[int | None] = []
    for headers, body in answers:
        answer = decode_answer(body, backend)
        rows = [answer["embedding"]] if answer.get("embedding") else _cohere_rows(answer)
        if not rows:
            reason = answer.get("message") or "no vectors"
            raise APIError(f"'{backend}' answered without an embedding: {reason}.", backend=backend)
        vectors += rows
        header = headers.get("x-amzn-bedrock-input-token-count", "")
        count = token_count(answer, "inputTextTokenCount")
        counts.append(int(header) if count is None and header.isdecimal() else count)
    known_counts = [count for count in counts if count is not None]
    usage = Usage(input_tokens=sum(known_counts) if len(known_counts) == len(counts) else None)
    return checked_embeddings(request, vectors, usage, model=model, backend=backend)


def _titan_body(model: str, text: str, options: BedrockOptions, *, normalize: bool) -> Body:
    body: Body = {"inputText": text}
    if "embed-image" in model:
        if options.dimensions is not None:
            body["embeddingConfig"] = {"outputEmbeddingLength": options.dimensions}
    elif "text-v2" in model:
        body["normalize"] = normalize
        if options.dimensions is not None:
            body["dimensions"] = options.dimensions
    return body


def _cohere_body(model: str, texts: Sequence[str], options: BedrockOptions) -> Body:
    body: Body = {
        "texts": list(texts),
        "input_type": options.input_type,
        "truncate": "NONE",
        "embedding_types": ["float"],
    }
    if "embed-v4" in model and options.dimensions is not None:
        body["output_dimension"] = options.dimensions
    return body


def _cohere_rows(answer: dict[str, Any]) -> list[Any]:
    """Return the vectors of a list, or of lists by number type."""
    rows = answer.get("embeddings")
    rows = rows.get("float") if isinstance(rows, dict) else rows
    return rows if isinstance(rows, list) else []
