"""The table of AWS' errors, and the forms in which they are written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llama4sdk_aws.aws_errors import ErrorReport, find_remedy, make_error, parse_answer

from llama4sdk.errors import (
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ContextLengthError,
    ModelRetiredError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from llama4sdk.remote.dialect import Head

BAD = "ValidationException"
ON_DEMAND = (
    "Invocation of model ID meta.llama4-scout-17b-instruct-v1:0 with on-demand throughput isn\u2019t supported. Retry "
    "your request with the ID or ARN of an inference profile that contains this model."
)
DENIED, WRONG_KEY = PermissionDeniedError, AuthenticationError
KINDS: list[tuple[int, str, str, type[Exception], bool]] = [
    (400, BAD, "This model's maximum context length is 1048576 tokens. Please reduce", ContextLengthError, False),
    (400, BAD, "Input is too long for requested model.", ContextLengthError, False),
    (400, BAD, "The model returned the following errors: prompt is too long", ContextLengthError, False),
    (400, BAD, "Too many input tokens. Max input tokens: 8192", ContextLengthError, False),
    (400, BAD, ON_DEMAND, APIStatusError, False),
    (400, BAD, "This model doesn't support tool use in streaming mode.", APIStatusError, False),
    (400, BAD, "This model doesn't support tool use.", APIStatusError, False),
    (400, BAD, "The provided model identifier is invalid.", APIStatusError, False),
    (400, BAD, "The maximum tokens you requested exceeds the model limit of 8192.", APIStatusError, False),
    (400, BAD, "Malformed input request", APIStatusError, False),
    (400, "ConflictException", "Concurrent change", APIStatusError, False),
    (400, "ServiceQuotaExceededException", "You have exceeded your quota", RateLimitError, False),
    (403, "AccessDeniedException", "You don't have access to the model", DENIED, False),
    (403, "AccessDeniedException", "Authentication failed: your API Key is not valid.", WRONG_KEY, False),
    (403, "UnrecognizedClientException", "The security token is invalid", WRONG_KEY, False),
    (403, "InvalidSignatureException", "The request signature we calculated does not match", WRONG_KEY, False),
    (403, "InvalidSignatureException", "Signature expired: 2026", WRONG_KEY, False),
    (403, "MissingAuthenticationTokenException", "Missing Authentication Token", WRONG_KEY, False),
    (403, "IncompleteSignatureException", "Incomplete", WRONG_KEY, False),
    (403, "InvalidClientTokenId", "No such key", WRONG_KEY, False),
    (403, "ExpiredTokenException", "The security token included in the request is expired", WRONG_KEY, False),
    (404, "ResourceNotFoundException", "Could not find the endpoint", APIStatusError, False),
    (404, "ResourceNotFoundException", "This Model is marked by provider as Legacy", ModelRetiredError, False),
    (404, "ResourceNotFoundException", "This model version has reached the end of its life.", ModelRetiredError, False),
    (408, "ModelTimeoutException", "Model has timed out in processing the request", APITimeoutError, True),
    (424, "ModelErrorException", "The model failed", APIStatusError, True),
    (429, "ThrottlingException", "Too many requests, please wait before trying again.", RateLimitError, True),
    (429, "ThrottlingException", "Too many tokens, please wait before trying again.", RateLimitError, True),
    (429, "ThrottlingException", "Too many tokens per day, please wait before trying again.", RateLimitError, False),
    (429, "ModelNotReadyException", "Model is not ready for inference", OverloadedError, True),
    (500, "InternalServerException", "The system encountered an unexpected error", APIStatusError, True),
    (502, "", "Bad Gateway", APIStatusError, True),
    (503, "ServiceUnavailableException", "Bedrock is unable to process your request.", OverloadedError, True),
    (504, "", "", APITimeoutError, True),
    (530, "InternalDependencyException", "", APIStatusError, True),
    (429, "", "", RateLimitError, True),
    (401, "", "", WRONG_KEY, False),
    (403, "", "", DENIED, False),
    (418, "", "", APIStatusError, False),
]  # fmt: skip


def answer(status: int, code: str = "", body: Any = None, **headers: str) -> tuple[Head, bytes]:
    """The head and the body of an error."""
    head = {name.replace("_", "-"): value for name, value in headers.items()}
    if code:
        head["x-amzn-errortype"] = code
    return Head(status, head), body if isinstance(body, bytes) else json.dumps(body).encode()


def error(status: int, code: str, message: str) -> Exception:
    """The SDK's error of an AWS error."""
    report = parse_answer(*answer(status, code, {"message": message}), now=0.0)
    return make_error(report, backend="bedrock", model="scout", context_length=2048)


@pytest.mark.parametrize(("status", "code", "message", "kind", "again"), KINDS)
def test_every_error_has_its_type(status: int, code: str, message: str, kind: type[Exception], again: bool) -> None:
    """Each error has its class, its hint and AWS' words, and says whether it is retryable."""
    aws_error = error(status, code, message)
    assert type(aws_error) is kind
    assert getattr(aws_error, "retryable", False) is again
    assert getattr(aws_error, "hint", None)
    assert message.rstrip(".") in str(aws_error)
    if isinstance(aws_error, APIError):
        assert aws_error.status == status


def test_limits_are_parsed() -> None:
    """The limit in the message takes precedence over the known one."""
    far = error(400, BAD, "The maximum context length is 1048576 tokens. However, you requested 1050000 tokens")
    assert isinstance(far, ContextLengthError)
    assert (far.limit, far.requested) == (1048576, 1050000)
    vague = error(400, BAD, "Input is too long for requested model.")
    assert isinstance(vague, ContextLengthError)
    assert (vague.limit, vague.requested) == (2048, None)


@pytest.mark.parametrize(
    ("head", "body"),
    [
        answer(429, "ThrottlingException:http://internal.amazon.com/coral/", {"message": "slow"}),
        answer(429, "", {"__type": "com.amazon#ThrottlingException", "Message": "slow"}),
        answer(429, "", {"code": "ThrottlingException", "message": "slow"}),
        answer(429, "", b"<ErrorResponse><Error><Code>ThrottlingException</Code><Message>slow</Message></Error>"),
    ],
    ids=["header", "__type", "code", "xml"],
)
def test_errors_come_in_many_forms(head: Head, body: bytes) -> None:
    """The code is in a header, in one of three fields, or in XML."""
    aws_error = parse_answer(head, body, now=0.0)
    assert (aws_error.code, aws_error.status) == ("ThrottlingException", 429)
    assert "slow" in aws_error.message


@pytest.mark.parametrize("body", [b"", b"\x00\xff", b"[1]", b"null", b'"text"', b"{", b"<html>" * 10000])
def test_any_body_of_a_proxy_is_an_error(body: bytes) -> None:
    """No body breaks the parsing of errors."""
    aws_error = make_error(parse_answer(*answer(502, "", body), now=0.0), backend="bedrock", model="scout")
    assert isinstance(aws_error, APIStatusError)
    assert aws_error.retryable
    assert len(str(aws_error)) < 1000


def test_wait_times_and_request_ids_are_read() -> None:
    """AWS' milliseconds become seconds, and the error has the request's id."""
    head, body = answer(429, "ThrottlingException", {}, x_amz_retry_after="1500", x_amzn_requestid="r-1")
    aws_error = make_error(parse_answer(head, body, now=0.0), backend="bedrock", model="scout")
    assert isinstance(aws_error, RateLimitError)
    assert (aws_error.retry_after, aws_error.request_id) == (1.5, "r-1")
    head, body = answer(429, "ThrottlingException", {}, retry_after="Thu, 01 Jan 1970 00:01:40 GMT")
    assert parse_answer(head, body, now=90.0).retry_after == 10.0


def test_the_signed_text_is_not_repeated() -> None:
    """AWS answers a wrong signature with the signed text, which has the session token."""
    text = "does not match.\n\nThe Canonical String for this request should have been\n'POST\nx-amz-security-token:abc'"
    assert "abc" not in str(error(403, "InvalidSignatureException", text))


@pytest.mark.parametrize(("original", "again"), [(None, True), (500, True), (400, False)])
def test_a_models_own_error(original: int | None, again: bool) -> None:
    """The original status says whether the model's server or the request was at fault."""
    aws_error = make_error(ErrorReport(424, "ModelErrorException", "no", original), backend="bedrock", model="scout")
    assert isinstance(aws_error, APIStatusError)
    assert aws_error.retryable is again


@pytest.mark.parametrize(
    ("code", "message", "name"),
    [
        ("ExpiredTokenException", "The security token included in the request is expired", "credentials"),
        ("InvalidSignatureException", "Signature expired: 20260101T000000Z is now earlier than", "clock"),
        ("InvalidSignatureException", "Signature not yet current: 20260101T000000Z is still later", "clock"),
        (BAD, "This model doesn\u2019t support tool use in streaming mode.", "unary-tools"),
        (BAD, "You can't use ConverseStream with this model", "unary"),
        (BAD, "This model doesn't support the stopSequences field. Remove stopSequences and try again.", "stops"),
        (BAD, ON_DEMAND, "profile"),
        (BAD, "Malformed input request", None),
        ("ThrottlingException", "Too many requests", None),
    ],
)
def test_remedies(code: str, message: str, name: str | None) -> None:
    """The words of an error name what may help at once."""
    aws_error = error(400, code, message)
    assert find_remedy(aws_error) == name  # type: ignore[arg-type]
