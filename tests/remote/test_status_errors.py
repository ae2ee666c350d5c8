"""Error bodies of many servers, and the errors they become."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import to_json

from llama4sdk.errors import (
    APIError,
    APITimeoutError,
    ContentFilteredError,
    ContextLengthError,
    Llama4Error,
    ModelRetiredError,
    RateLimitError,
)
from llama4sdk.remote.dialect import Head
from llama4sdk.remote.status_errors import parse_error_body, retry_after, status_error

NOW = 1_795_000_000.0
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                ["error", "message", "detail", "code", "type", "innererror", "details", "n_ctx", "retryDelay"]
            )
            | st.text(),
            inner,
        )
    ),
)


def of(status: int, body: bytes, **headers: str) -> Llama4Error:
    """The error of such an answer."""
    return status_error(Head(status, headers), body, backend="small", model="scout", now=NOW)


@given(st.integers(300, 999), st.binary(max_size=300))
def test_any_bytes_are_an_error(status: int, body: bytes) -> None:
    """Whatever stands there: an error of the tree, with a hint, of bounded length, and one line."""
    error = of(status, body)
    assert error.hint
    assert len(error.message) < 1000
    assert "\n" not in error.message


@given(st.integers(300, 399), st.text() | st.text().map("http://me:password@[{}".format))
def test_any_location_is_an_error(status: int, location: str) -> None:
    """Whatever a redirection names; a password in it is not repeated."""
    error = of(status, b"", location=location)
    assert "not followed" in error.message
    assert "me:password@" not in error.message
    assert len(error.message) < 1000


@given(st.integers(300, 999), JSON)
def test_any_json_is_an_error(status: int, value: object) -> None:
    """So is JSON of any shape."""
    error = of(status, to_json(value))
    assert error.hint
    assert len(error.message) < 1000


@pytest.mark.parametrize("body", [b"<" * 2**16, b"<script" * 9000, b"[" * 2**16, b"9" * 2**16, b'{"a":' * 9000])
def test_bodies_made_to_waste_time_do_not(body: bytes) -> None:
    """Bodies that are slow to parse naively take no longer than others."""
    assert len(parse_error_body(body).message) <= 501


@given(st.text())
def test_any_retry_after_is_read(value: str) -> None:
    """As a time that can be waited, or as none."""
    wait = retry_after({"retry-after": value}, now=NOW)
    assert wait is None or 0 <= wait < float("inf")


TIMES: list[tuple[dict[str, str], float | None]] = [
    ({}, None),
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": " 0.5 "}, 0.5),
    ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
    ({"x-amz-retry-after": "1500"}, 1.5),
    ({"retry-after": "-1"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "Wed, 18 Nov 2026 08:00:05 GMT", "date": "Wed, 18 Nov 2026 08:00:00 GMT"}, 5.0),
    ({"retry-after": "Wed, 18 Nov 2026 08:00:05 -0000", "date": "Wed, 18 Nov 2026 08:00:00 GMT"}, 5.0),
    ({"retry-after": "Wed, 18 Nov 2020 08:00:05 GMT"}, None),
]


@pytest.mark.parametrize(("headers", "seconds"), TIMES)
def test_the_forms_of_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """Seconds, milliseconds, dates by the server's own clock."""
    assert retry_after(headers, now=NOW) == seconds


WORDS: list[tuple[int, str, type[Llama4Error], str]] = [
    (
        400,
        '{"object":"error","message":"This model\'s maximum context length is 8192 tokens, you requested 9000"}',
        ContextLengthError,
        "8192",
    ),
    (
        400,
        '{"error":{"code":400,"message":"the request exceeds the available context size",'
        '"type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":8192}}',
        ContextLengthError,
        "exceeds",
    ),
    (
        422,
        '{"error":"`inputs` must have less than 4095 tokens. Given: 5000","error_type":"validation"}',
        ContextLengthError,
        "4095",
    ),
    (429, '{"error":{"message":"Too many tokens, please wait before trying again."}}', RateLimitError, "please wait"),
    (
        429,
        '{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}',
        RateLimitError,
        "quota",
    ),
    (400, '{"error":{"code":"content_filter","message":"filtered"}}', ContentFilteredError, "filtered"),
    (
        404,
        '{"error":{"message":"The model `x` has been decommissioned","code":"model_decommissioned"}}',
        ModelRetiredError,
        "decommissioned",
    ),
    (422, '{"detail":[{"loc":["body","n"],"msg":"too large"}]}', APIError, "body.n: too large"),
    (500, '[{"error":{"message":"in a list"}}]', APIError, "in a list"),
    (502, "<html><head><title>502</title></head><body>Bad gateway</body></html>", APIError, "Bad gateway"),
    (504, "", APITimeoutError, "504"),
]


@pytest.mark.parametrize(("status", "body", "kind", "words"), WORDS)
def test_what_servers_say(status: int, body: str, kind: type[Llama4Error], words: str) -> None:
    """The class follows from the status and the words, and the words are kept."""
    error = of(status, body.encode())
    assert isinstance(error, kind)
    assert words in error.message


def test_the_numbers_of_a_context_that_is_too_long() -> None:
    """They are taken from fields or from words."""
    for _, body, kind, _ in WORDS[:2]:
        assert kind is ContextLengthError
        error = of(400, body.encode())
        assert isinstance(error, ContextLengthError)
        assert (error.limit, error.requested) == (8192, 9000)


def test_a_quota_is_not_waited_for() -> None:
    """Used up is not the same as busy."""
    spent = of(429, b'{"error":{"code":"insufficient_quota","message":"pay"}}')
    busy = of(429, b'{"error":{"message":"busy","details":[{"retryDelay":"3s"}]}}')
    assert isinstance(spent, RateLimitError)
    assert isinstance(busy, RateLimitError)
    assert (spent.retryable, busy.retryable, busy.retry_after) == (False, True, 3.0)
