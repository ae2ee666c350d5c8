"""What AWS' errors mean, in the SDK's own: one table, for answers and for exceptions within streams. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, NamedTuple

from pydantic import JsonValue

from llama4sdk.catalog import endpoints
from llama4sdk.errors import (
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    Llama4Error,
    ModelRetiredError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    UnsupportedFeatureError,
)
from llama4sdk.remote import status_errors
from llama4sdk.remote.dialect import Head
from llama4sdk_aws.frames import Frame

__all__ = ["Told", "error_of", "no_counting", "of_frame", "remedy", "told"]

TOO_LONG: Final = re.compile(
    r"maximum context length|too many input tokens|(input|prompt) is too long|too long for (the )?requested model"
    r"|exceeds? the (model.s )?(maximum )?context|context window",
    re.IGNORECASE,
)
REMEDIES: Final = (
    ("credentials", r"ExpiredToken|security token included in the request is expired"),
    ("clock", r"Signature expired|not yet current|RequestTimeTooSkewed|RequestExpired"),
    ("unary-tools", r"tool use in streaming mode"),
    ("unary", r"support (response )?streaming|can.t use (InvokeModelWithResponseStream|ConverseStream)"),
    ("stops", r"support the stopSequences field"),
    ("profile", r"on-demand throughput isn"),
)
SIGNED: Final = re.compile(r"\s*The Canonical String for this request.*", re.DOTALL)
"""Where AWS repeats what was signed, the session token included."""


class Told(NamedTuple):
    """What an error says of itself."""

    status: int | None
    code: str
    message: str
    original_status: int | None = None
    request_id: str | None = None
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    codes: str
    """Of which the error's code, without ``Exception``, is one; empty for any."""
    text: str
    """Found in its message; empty for any."""
    kind: type[APIError]
    hint: str
    again: bool = False

    def fits(self, told: Told) -> bool:
        code = told.code.removesuffix("Exception")
        return (not self.codes or code in self.codes.split()) and (
            not self.text or re.search(self.text, told.message, re.IGNORECASE) is not None
        )


_CLOCK: Final = r"signature expired|not yet current"
_WRONG_KEY: Final = "Check the AWS keys or the API key; 'aws sts get-caller-identity' shows whose they are."
_QUOTA: Final = "It does not help to wait a little: ask for a higher quota in Service Quotas, or use another region."

ROWS: Final = (
    _Row("Validation", r"on-demand throughput isn", APIStatusError,
         "Pass the id or ARN of an inference profile that has this model, such as 'us.' and the id."),
    _Row("Validation", r"provided model identifier is invalid", APIStatusError,
         "Check the id, and that the region has it: 'aws bedrock list-inference-profiles'."),
    _Row("Validation", r"streaming mode|support (response )?streaming|support tool use|support the stopSequences",
         APIStatusError, "This model cannot do that on Bedrock: ask without it, or use another model."),
    _Row("Validation", r"exceeds the model limit of \d+", APIStatusError, "Lower max_tokens to the limit it names."),
    _Row("", r"marked by provider as legacy|end of its life|reached the end", ModelRetiredError, ""),
    _Row("ServiceQuotaExceeded", "", RateLimitError, _QUOTA),
    _Row("Throttling TooManyRequests Throttled", r"per day|daily|monthly", RateLimitError, _QUOTA),
    _Row("Throttling TooManyRequests Throttled RequestLimitExceeded SlowDown", "", RateLimitError,
         "Ask less often, or ask for a higher quota in Service Quotas.", again=True),
    _Row("ExpiredToken RequestExpired", "", AuthenticationError,
         "The session is over, and no newer credentials were found: log in again, or renew the keys."),
    _Row("InvalidSignature SignatureDoesNotMatch RequestTimeTooSkewed", _CLOCK, AuthenticationError,
         "This machine's clock is wrong: set it."),
    _Row("UnrecognizedClient InvalidSignature SignatureDoesNotMatch MissingAuthenticationToken IncompleteSignature "
         "InvalidClientTokenId RequestTimeTooSkewed AuthFailure NotAuthorized Unauthorized", "", AuthenticationError,
         _WRONG_KEY),
    _Row("AccessDenied", r"API key|bearer|authenticat", AuthenticationError,
         "Check the API key and its region: a short-term key is good for 12 hours, in one region."),
    _Row("AccessDenied OptInRequired", "", PermissionDeniedError,
         "Ask for access to the model in the Bedrock console, and allow bedrock:InvokeModel (and "
         "InvokeModelWithResponseStream) on the inference profile and on the model in every region it leads to."),
    _Row("ResourceNotFound", "", APIStatusError, "Check the id or the endpoint's name, and the region."),
    _Row("ModelNotReady", "", OverloadedError, "The model is being started: try again in a minute.", again=True),
    _Row("ServiceUnavailable", "", OverloadedError, "Try again later.", again=True),
    _Row("ModelStreamError StreamBroken", "", APIStatusError, "Ask again.", again=True),
    _Row("InternalServer InternalFailure InternalDependency InternalStreamFailure", "", APIStatusError,
         "That is AWS' fault: try again.", again=True),
    _Row("Validation ValidationError Conflict", "", APIStatusError, "Correct what its message names."),
)  # fmt: skip

STATUSES: Final = {
    "Throttling": 429,
    "Validation": 400,
    "InternalServer": 500,
    "ServiceUnavailable": 503,
    "ModelStreamError": 424,
    "ModelTimeout": 408,
    "AccessDenied": 403,
}
"""Of exceptions within a stream, whose own status is 200."""


def told(head: Head, body: bytes, *, now: float) -> Told:
    """From an answer's headers and body, whichever of AWS' ways it is written in; ``now`` is the time of day."""
    words = status_errors.said(body)
    code = head.headers.get("x-amzn-errortype") or _first(words.body, "__type", "code", "Code")
    if not code and (xml := re.search(rb"<Code>(\w+)</Code>", body)):
        code = xml[1].decode()
    said = _first(words.body, "message", "Message") or words.message
    original = words.body.get("originalStatusCode")
    return Told(
        head.status,
        code.split(":")[0].split("#")[-1],
        SIGNED.sub("", said),
        original if isinstance(original, int) else None,
        head.request_id,
        status_errors.retry_after(head.headers, now=now),
    )


def of_frame(frame: Frame) -> Told:
    """From an exception or an error within a stream."""
    words = status_errors.said(frame.payload)
    code = _first(words.body, "ErrorCode") or frame.name[:1].upper() + frame.name[1:]
    original = words.body.get("originalStatusCode")
    message = frame.message or _first(words.body, "message", "Message", "originalMessage") or words.message
    status = STATUSES.get(code.removesuffix("Exception"), 500 if frame.kind == "error" else None)
    return Told(status, code, message, original if isinstance(original, int) else None)


def error_of(told: Told, *, backend: str, model: str, context: int | None = None) -> Llama4Error:
    """The SDK's error for it; ``context`` is the model's, as far as it is known."""
    what = f"'{backend}' answered {told.code or told.status or 'with an error'}"
    what = f"{what}: {told.message}" if told.message else f"{what} and no explanation"
    what = what if what.endswith((".", "!", "?", "…")) else f"{what}."
    if told.status in (400, 413, None) and TOO_LONG.search(told.message) and "please wait" not in told.message:
        return status_errors.too_long(what, status_errors.Said(told.message, told.code, {}), context)
    code = told.code.removesuffix("Exception")
    if code in ("ModelTimeout", "ModelInvocationTimeExceeded") or told.status in (408, 504):
        hint = "Lower max_tokens, or stream the answer."
        return APITimeoutError(
            what, phase="first_byte", backend=backend, status=told.status, request_id=told.request_id,
            retryable=True, hint=hint,
        )  # fmt: skip
    if code == "ModelError":
        again = told.original_status is None or told.original_status >= 500
        row = _Row("", "", APIStatusError, "The model failed on this request: change it, or try again.", again=again)
    else:
        row = next((row for row in ROWS if row.fits(told)), None) or _by_status(told)
    if row.kind is ModelRetiredError:
        return endpoints.retired_error(
            backend, model, status=told.status, request_id=told.request_id, said=told.message
        )
    error = row.kind(
        what,
        backend=backend,
        status=told.status,
        request_id=told.request_id,
        retryable=row.again,
        retry_after=told.retry_after,
        hint=row.hint,
    )
    if isinstance(error, APIStatusError) and "identifier is invalid" in told.message:
        error.hint = f"{row.hint} It was '{model}'."
    return error


def no_counting(error: Llama4Error, backend: str) -> Llama4Error:
    """Of a refusal to count, that this model's tokens are not counted; any other error as it is."""
    if isinstance(error, APIStatusError) and error.status in (400, 404):
        hint = f"Bedrock counts tokens of few models; it said: {error.message} A Finish has the tokens after the fact."
        return UnsupportedFeatureError(backend, "counting tokens of this model", hint=hint)
    return error


def remedy(error: Llama4Error) -> str | None:
    """What may help at once, by the words of the error."""
    return next((name for name, text in REMEDIES if re.search(text, error.message, re.IGNORECASE)), None)


def _by_status(told: Told) -> _Row:
    status = told.status or 0
    if status == 429:
        return _Row("", "", RateLimitError, "Ask less often.", again=True)
    if status == 503:
        return _Row("", "", OverloadedError, "Try again later.", again=True)
    if status == 401:
        return _Row("", "", AuthenticationError, _WRONG_KEY)
    if status == 403:
        return _Row("", "", PermissionDeniedError, "Check what these credentials are allowed to do.")
    if status >= 500 or not status:
        return _Row("", "", APIStatusError, "Try again.", again=True)
    return _Row("", "", APIStatusError, "Correct what its message names.")


def _first(body: object, *names: str) -> str:
    if not isinstance(body, dict):
        return ""
    values: list[JsonValue] = [body.get(name) for name in names]
    return next((str(value) for value in values if value), "")
