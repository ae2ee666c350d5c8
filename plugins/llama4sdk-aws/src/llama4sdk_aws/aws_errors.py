"""AWS' errors as the SDK's: one table, for answers and for exceptions within streams. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

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

TOO_LONG: Final = re.compile(
    r"maximum context length|too many input tokens|(input|prompt) is too long|too long for (the )?requested model"
    r"|exceeds? the (model.s )?(maximum )?context|context window",
    re.IGNORECASE,
)
#: Names of remedies, and the words of the errors against which they may help.
REMEDIES: Final = (
    ("credentials", r"ExpiredToken|security token included in the request is expired"),
    ("clock", r"Signature expired|not yet current|RequestTimeTooSkewed|RequestExpired"),
    ("unary-tools", r"tool use in streaming mode"),
    ("unary", r"support (response )?streaming|can.t use (InvokeModelWithResponseStream|ConverseStream)"),
    ("stops", r"support the stopSequences field"),
    ("profile", r"on-demand throughput isn"),
)

#: The end of a message that repeats the signed text, the session token included.
CANONICAL_STRING: Final = re.compile(r"\s*The Canonical String for this request.*", re.DOTALL)


class ErrorReport(NamedTuple):
    """The fields of an AWS error, in whichever form it was written."""

    status: int | None
    code: str
    message: str
    original_status: int | None = None
    request_id: str | None = None
    retry_after: float | None = None


#: Makes the SDK's error of a report.
ErrorFactory: TypeAlias = Callable[[ErrorReport], Llama4Error]


@dataclass(frozen=True, slots=True)
class _Rule:
    """An error type for reports with one of ``codes`` (without ``Exception``) and ``pattern`` in the message.

    Empty codes or an empty pattern match any report.
    """

    codes: str
    pattern: str
    error_type: type[APIError]
    hint: str
    retryable: bool = False

    def matches(self, report: ErrorReport) -> bool:
        code = report.code.removesuffix("Exception")
        return (not self.codes or code in self.codes.split()) and (
            not self.pattern or re.search(self.pattern, report.message, re.IGNORECASE) is not None
        )


_CLOCK_PATTERN: Final = r"signature expired|not yet current"
_KEY_HINT: Final = "Check the AWS keys or the API key; 'aws sts get-caller-identity' shows whose they are."
_QUOTA_HINT: Final = (
    "It does not help to wait a little: ask for a higher quota in Service Quotas, or use another region."
)

#: The first rule that matches a report decides.
RULES: Final = (
    _Rule("Validation", r"on-demand throughput isn", APIStatusError,
         "Pass the id or ARN of an inference profile that has this model, such as 'us.' and the id."),
    _Rule("Validation", r"provided model identifier is invalid", APIStatusError,
         "Check the id, and that the region has it: 'aws bedrock list-inference-profiles'."),
    _Rule("Validation", r"streaming mode|support (response )?streaming|support tool use|support the stopSequences",
         APIStatusError, "This model cannot do that on Bedrock: ask without it, or use another model."),
    _Rule("Validation", r"exceeds the model limit of \d+", APIStatusError, "Lower max_tokens to the limit it names."),
    _Rule("", r"marked by provider as legacy|end of its life|reached the end", ModelRetiredError, ""),
    _Rule("ServiceQuotaExceeded", "", RateLimitError, _QUOTA_HINT),
    _Rule("Throttling TooManyRequests Throttled", r"per day|daily|monthly", RateLimitError, _QUOTA_HINT),
    _Rule("Throttling TooManyRequests Throttled RequestLimitExceeded SlowDown", "", RateLimitError,
         "Ask less often, or ask for a higher quota in Service Quotas.", retryable=True),
    _Rule("ExpiredToken RequestExpired", "", AuthenticationError,
         "The session is over, and no newer credentials were found: log in again, or renew the keys."),
    _Rule("InvalidSignature SignatureDoesNotMatch RequestTimeTooSkewed", _CLOCK_PATTERN, AuthenticationError,
         "This machine's clock is wrong: set it."),
    _Rule("UnrecognizedClient InvalidSignature SignatureDoesNotMatch MissingAuthenticationToken IncompleteSignature "
         "InvalidClientTokenId RequestTimeTooSkewed AuthFailure NotAuthorized Unauthorized", "", AuthenticationError,
         _KEY_HINT),
    _Rule("AccessDenied", r"API key|bearer|authenticat", AuthenticationError,
         "Check the API key and its region: a short-term key is good for 12 hours, in one region."),
    _Rule("AccessDenied OptInRequired", "", PermissionDeniedError,
         "Ask for access to the model in the Bedrock console, and allow bedrock:InvokeModel (and "
         "InvokeModelWithResponseStream) on the inference profile and on the model in every region it leads to."),
    _Rule("ResourceNotFound", "", APIStatusError, "Check the id or the endpoint's name, and the region."),
    _Rule("ModelNotReady", "", OverloadedError, "The model is being started: try again in a minute.", retryable=True),
    _Rule("ServiceUnavailable", "", OverloadedError, "Try again later.", retryable=True),
    _Rule("ModelStreamError StreamBroken", "", APIStatusError, "Ask again.", retryable=True),
    _Rule("InternalServer InternalFailure InternalDependency InternalStreamFailure", "", APIStatusError,
         "That is AWS' fault: try again.", retryable=True),
    _Rule("Validation ValidationError Conflict", "", APIStatusError, "Correct what its message names."),
)  # fmt: skip

#: Statuses of exceptions within a stream, which itself has status 200.
STATUS_BY_CODE: Final = {
    "Throttling": 429,
    "Validation": 400,
    "InternalServer": 500,
    "ServiceUnavailable": 503,
    "ModelStreamError": 424,
    "ModelTimeout": 408,
    "AccessDenied": 403,
}


def parse_answer(head: Head, body: bytes, *, now: float) -> ErrorReport:
    """Read an answer's headers and body, in any of AWS' forms; ``now`` is the time of day in seconds."""
    error_body = status_errors.parse_error_body(body)
    code = head.headers.get("x-amzn-errortype") or _first(error_body.fields, "__type", "code", "Code")
    if not code and (xml := re.search(rb"<Code>(\w+)</Code>", body)):
        code = xml[1].decode()
    message = _first(error_body.fields, "message", "Message") or error_body.message
    return ErrorReport(
        head.status,
        code.split(":")[0].split("#")[-1],
        CANONICAL_STRING.sub("", message),
        _original_status(error_body.fields),
        head.request_id,
        status_errors.retry_after(head.headers, now=now),
    )


def parse_frame(frame: Frame) -> ErrorReport:
    """Read an exception or an error within a stream."""
    error_body = status_errors.parse_error_body(frame.payload)
    code = _first(error_body.fields, "ErrorCode") or frame.name[:1].upper() + frame.name[1:]
    message = frame.message or _first(error_body.fields, "message", "Message", "originalMessage") or error_body.message
    status = STATUS_BY_CODE.get(code.removesuffix("Exception"), 500 if frame.kind == "error" else None)
    return ErrorReport(status, code, message, _original_status(error_body.fields))


def event_frames(frames: Iterable[Frame], to_error: ErrorFactory) -> Iterator[Frame]:
    """Yield the frames that are events. Raises the error of the first that is none."""
    for frame in frames:
        if frame.kind != "event":
            raise to_error(parse_frame(frame))
        yield frame


def make_error(report: ErrorReport, *, backend: str, model: str, context_length: int | None = None) -> Llama4Error:
    """Return the SDK's error; ``context_length`` is the model's, as far as it is known."""
    text = _describe(report, backend)
    is_refusal = report.status in (400, 413, None) and "please wait" not in report.message
    if is_refusal and TOO_LONG.search(report.message):
        return status_errors.context_length_error(
            text, status_errors.ErrorBody(report.message, report.code, {}), context_length
        )
    code = report.code.removesuffix("Exception")
    if code in ("ModelTimeout", "ModelInvocationTimeExceeded") or report.status in (408, 504):
        return APITimeoutError(
            text,
            phase="first_byte",
            backend=backend,
            status=report.status,
            request_id=report.request_id,
            retryable=True,
            hint="Lower max_tokens, or stream the answer.",
        )
    rule = _find_rule(report)
    if rule.error_type is ModelRetiredError:
        return endpoints.retired_error(
            backend, model, status=report.status, request_id=report.request_id, said=report.message
        )
    error = rule.error_type(
        text,
        backend=backend,
        status=report.status,
        request_id=report.request_id,
        retryable=rule.retryable,
        retry_after=report.retry_after,
        hint=rule.hint,
    )
    if isinstance(error, APIStatusError) and "identifier is invalid" in report.message:
        error.hint = f"{rule.hint} It was '{model}'."
    return error


def counting_error(error: Llama4Error, backend: str) -> Llama4Error:
    """Return UnsupportedFeatureError for a refusal to count a model's tokens, any other error as it is."""
    if isinstance(error, APIStatusError) and error.status in (400, 404):
        hint = f"Bedrock counts tokens of few models; it said: {error.message} A Finish has the tokens after the fact."
        return UnsupportedFeatureError(backend, "counting tokens of this model", hint=hint)
    return error


def find_remedy(error: Llama4Error) -> str | None:
    """Return the name of the remedy that may help against an error at once, by its words."""
    return next((name for name, pattern in REMEDIES if re.search(pattern, error.message, re.IGNORECASE)), None)


def _describe(report: ErrorReport, backend: str) -> str:
    text = f"'{backend}' answered {report.code or report.status or 'with an error'}"
    text = f"{text}: {report.message}" if report.message else f"{text} and no explanation"
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def _find_rule(report: ErrorReport) -> _Rule:
    if report.code.removesuffix("Exception") == "ModelError":
        retryable = report.original_status is None or report.original_status >= 500
        hint = "The model failed on this request: change it, or try again."
        return _Rule("", "", APIStatusError, hint, retryable=retryable)
    return next((rule for rule in RULES if rule.matches(report)), None) or _rule_by_status(report.status or 0)


def _rule_by_status(status: int) -> _Rule:
    if status == 429:
        return _Rule("", "", RateLimitError, "Ask less often.", retryable=True)
    if status == 503:
        return _Rule("", "", OverloadedError, "Try again later.", retryable=True)
    if status == 401:
        return _Rule("", "", AuthenticationError, _KEY_HINT)
    if status == 403:
        return _Rule("", "", PermissionDeniedError, "Check what these credentials are allowed to do.")
    if status >= 500 or not status:
        return _Rule("", "", APIStatusError, "Try again.", retryable=True)
    return _Rule("", "", APIStatusError, "Correct what its message names.")


def _original_status(body: Mapping[str, Any]) -> int | None:
    status = body.get("originalStatusCode")
    return status if isinstance(status, int) else None


def _first(body: Mapping[str, Any], *names: str) -> str:
    return next((str(body[name]) for name in names if body.get(name)), "")
