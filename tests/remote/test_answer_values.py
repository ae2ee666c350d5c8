"""Logprobs, counts, vectors and JSON are read from whatever form a server sends them in."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from llama4sdk.errors import APIError, InvalidRequestError
from llama4sdk.events import TokenLogprob, TopLogprob, Usage
from llama4sdk.remote.chat_messages import parse_usage
from llama4sdk.remote.json_fields import as_object, as_objects, decode_object, encode_json, parse_logprobs, token_count
from llama4sdk.remote.vectors import checked_embeddings
from llama4sdk.requests import EmbedRequest

ENTRY: dict[str, Any] = {
    "token": "a",
    "logprob": -0.5,
    "top_logprobs": [{"token": "b", "logprob": -3}, {"token": "a", "logprob": -0.5}, {"token": "c", "logprob": -4}],
}
LOGPROBS: dict[str, object] = {
    "objects under content": {"content": [ENTRY]},
    "bare objects": [ENTRY],
    "parallel arrays": {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{"b": -3, "a": -0.5, "c": -4}]},
}


@pytest.mark.parametrize("form", LOGPROBS)
def test_logprobs_are_the_same_in_every_form(form: str) -> None:
    """The drawn token comes with the likeliest alternatives, as many as were asked for."""
    top = (TopLogprob(token="a", logprob=-0.5), TopLogprob(token="b", logprob=-3.0))
    assert parse_logprobs(LOGPROBS[form], 2) == (TokenLogprob(token="a", logprob=-0.5, top=top),)


@pytest.mark.parametrize("value", [None, "text", {}, {"tokens": ["a"]}, {"content": [None]}])
def test_missing_logprobs_are_none(value: object) -> None:
    """Values without a list of tokens have no logprobs."""
    assert parse_logprobs(value, 2) == ()


def test_logprobs_of_zero_probability_are_finite() -> None:
    """Null stands for the logarithm of zero, and rounding above zero is corrected."""
    values = [{"token": "a", "logprob": None}, {"token": "b", "logprob": 1e-9}]
    assert [entry.logprob for entry in parse_logprobs(values, 0)] == [-9999.0, 0.0]


@pytest.mark.parametrize("entry", [{"token": "a"}, {"token": "a", "logprob": "high"}])
def test_damaged_logprobs_are_an_error(entry: dict[str, object]) -> None:
    """A missing value is not taken for an unlikely token."""
    with pytest.raises(ValueError, match="log-probability"):
        parse_logprobs([entry], 0)


def test_usage_has_only_the_counts_that_are_named() -> None:
    """Missing, negative and non-integer counts are unknown, not zero."""
    details = {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    assert parse_usage(details) == Usage(input_tokens=5, output_tokens=2, cached_tokens=4)
    assert parse_usage({"prompt_tokens": -1, "completion_tokens": True, "prompt_tokens_details": None}) == Usage()
    assert token_count({"n": 1.5}, "n") is None


def test_values_of_unexpected_types_are_empty() -> None:
    """Readers need not check types at every step."""
    assert as_object(None) == as_object([1]) == {}
    assert as_objects([{"a": 1}, 2, None]) == [{"a": 1}]
    assert as_objects({"a": 1}) == []


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"{", b'{"x": "\\ud83e"}', b"[" * 100_000])
def test_data_that_is_no_object_is_an_error(data: bytes) -> None:
    """Other JSON, incomplete JSON, unpaired surrogates and endless nesting are refused alike."""
    with pytest.raises(ValueError):  # noqa: PT011 - the decoder's own words
        decode_object(data)


def test_bodies_are_encoded_as_compact_utf_8() -> None:
    """Characters are not escaped; unpaired surrogates are refused before anything is sent."""
    assert encode_json({"a": "é🦙", "b": 1}) == '{"a":"é🦙","b":1}'.encode()
    with pytest.raises(InvalidRequestError, match="halves of characters"):
        encode_json({"a": "\ud83e"})


def embed(vectors: list[Any], *, normalize: bool = True) -> tuple[tuple[float, ...], ...]:
    """The checked vectors of two texts."""
    request = EmbedRequest(inputs=("a", "b"), normalize=normalize)
    return checked_embeddings(request, vectors, Usage(), model="m", backend="server").vectors


def test_vectors_are_normalized_when_asked() -> None:
    """Without normalization they stay as the server sent them."""
    assert embed([[3, 4], [0, 2]], normalize=False) == ((3.0, 4.0), (0.0, 2.0))
    assert [math.hypot(*vector) for vector in embed([[3, 4], [0, 2]])] == pytest.approx([1, 1])


@pytest.mark.parametrize(
    "vectors",
    [
        [[1.0]],
        [[1.0], [1.0, 2.0]],
        [[], []],
        [[1.0], [math.nan]],
        [[1.0], [0.0]],
        [[1.0], ["x"]],
        [[1.0], None],
    ],
    ids=["too few", "different lengths", "empty", "not a number", "zeros", "text", "null"],
)
def test_unusable_vectors_are_an_error(vectors: list[Any]) -> None:
    """One finite vector for each text, all of the same length, none of zeros where they are normalized."""
    with pytest.raises(APIError, match="'server' embedded texts with"):
        embed(vectors)


def test_the_error_of_unusable_vectors_has_a_hint() -> None:
    """The most likely reason is a model that does not embed."""
    with pytest.raises(APIError) as caught:
        embed(json.loads("[[1], [NaN]]"))
    assert caught.value.hint == "Check that its model can embed."
