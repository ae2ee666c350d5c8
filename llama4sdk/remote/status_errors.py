"""HTTP errors as the SDK's own errors. Pure.

Servers write the same error in many forms; these are the forms of OpenAI's protocol and its servers. Sources: the error
bodies of vLLM, llama.cpp, TGI, SGLang, Ollama, Together, Azure, Google and Hugging Face.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from pydantic import JsonValue

from llama4sdk.catalog import endpoints
from llama4sdk.errors import (
    APIError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    ContentFilteredError,
    ContextLengthError,
    Llama4Error,
    ModelRetiredError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
)
from llama4sdk.remote.dialect import Head

#: Characters of a server's message that an error repeats.
MAX_MESSAGE_LENGTH: Final = 500

#: Characters that are read of a body that is no JSON.
MAX_PAGE_LENGTH: Final = 8192

TOO_LONG: Final = re.compile(
    r"maximum context length|context length|context window|context_length|too many (input )?tokens(?!, please)"
    r"|exceeds? (the )?(available |model's )?context|prompt is too long|input (is )?too long|input.*too long"
    r"|exceed_context_size|inputs.*must have less than|larger than the maximum",
    re.IGNORECASE,
)
QUOTA: Final = re.compile(r"insufficient.{0,10}quota|billing|credit|per day|\bdaily\b|monthly|spend", re.IGNORECASE)
FILTERED: Final = re.compile(
    r"content_filter|content filter|ResponsibleAIPolicy|content management policy", re.IGNORECASE
)
RETIRED: Final = re.compile(
    r"model_decommissioned|decommissioned|model_not_available|retired|end of (its )?life", re.IGNORECASE
)
OVERLOADED_CODES: Final = frozenset({"queueoverflowerror", "overloaded_error", "unavailable_error", "unavailable"})


class ErrorBody(NamedTuple):
    """The parts of an error's body; ``code`` joins the server's names of the error. Missing parts are empty."""

    message: str
    code: str
    fields: Mapping[str, JsonValue]


def parse_error_body(body: bytes) -> ErrorBody:
    """Parse an error's body: an object, a list, a string, a web page, or nothing."""
    text = body.decode("utf-8", "replace").replace("\x00", "").strip()
    try:
        value: JsonValue = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        page = text[:MAX_PAGE_LENGTH]
        page = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL | re.IGNORECASE)
        return ErrorBody(_short(" ".join(page.split())), "", {})
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return ErrorBody(_short(str(value)) if value else "", "", {})
    return _parse_object(value)


def _parse_object(value: dict[str, JsonValue]) -> ErrorBody:
    inner = value.get("error", value)
    if not isinstance(inner, dict):
        kind = value.get("error_type", "")
        return ErrorBody(_short(str(inner or "")), _short(str(kind)), value)
    message = next((inner[key] for key in ("message", "Message", "detail", "error") if inner.get(key)), "")
    nested = inner.get("innererror")
    codes = [inner.get(key) for key in ("code", "type", "status", "object")]
    codes += [nested.get("code")] if isinstance(nested, dict) else []
    code = " ".join(str(entry) for entry in codes if entry not in (None, "", "error"))
    if isinstance(message, list):  # FastAPI's list of invalid fields
        message = "; ".join(_describe_field(entry) for entry in message)
    return ErrorBody(_short(str(message)), _short(code), inner)


def _describe_field(entry: JsonValue) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    location = entry.get("loc")
    name = ".".join(str(part) for part in location) if isinstance(location, list) else ""
    return f"{name}: {entry.get('msg', '')}".strip(": ")


def _short(message: str) -> str:
    message = " ".join(message.split())
    return message if len(message) <= MAX_MESSAGE_LENGTH else f"{message[:MAX_MESSAGE_LENGTH]}…"


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds that the server asks to wait, if it does; ``now`` is the time of day in seconds."""
    for name, unit in (("retry-after-ms", 1000.0), ("x-amz-retry-after", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            deadline = _timestamp(value)
            if deadline is None:
                continue
            seconds = deadline - (_timestamp(headers.get("date", "")) or now)  # by the server's own clock, if known
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _timestamp(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def status_error(
    head: Head, body: bytes, *, backend: str, model: str, context_length: int | None = None, now: float
) -> Llama4Error:
    """Return the error of an answer with this status and body.

    ``context_length`` is the model's as far as it is known, ``now`` the time of day in seconds.
    """
    error_body = parse_error_body(body)
    status, text = head.status, f"{error_body.code} {error_body.message}"
    message = f"'{backend}' answered {status}"
    message += f": {error_body.message}" if error_body.message else " and no explanation"
    message = message if message.endswith((".", "!", "?", "…")) else f"{message}."
    if status in (400, 413, 422, 424, 500) and TOO_LONG.search(text):
        return context_length_error(message, error_body, context_length)
    if status in (400, 403, 422) and FILTERED.search(text):
        return ContentFilteredError(message, hint="Rephrase the request, or change the endpoint's filter.")
    rule = _redirect_rule(head) if 300 <= status < 400 else _find_rule(status, error_body.code, text, backend, model)
    wait = retry_after(head.headers, now=now)
    error = rule.error_type(
        f"{message.rstrip('.')} {rule.detail}" if rule.detail else message,
        backend=backend,
        status=status,
        request_id=head.request_id,
        retryable=rule.retryable,
        hint=rule.hint,
    )
    error.retry_after = _google_delay(error_body.fields) if wait is None else wait
    if isinstance(error, APITimeoutError):
        error.phase = "first_byte"
    return error


class _Rule(NamedTuple):
    """The type and the hint of an error; ``detail`` is appended to its message."""

    error_type: type[APIError]
    retryable: bool = False
    hint: str | None = None
    detail: str = ""


def _find_rule(status: int, code: str, text: str, backend: str, model: str) -> _Rule:
    is_listed_retired = status in (404, 410) and endpoints.find_retirement(backend, model) is not None
    if is_listed_retired or (status in (400, 404, 410) and RETIRED.search(text)):
        return _Rule(ModelRetiredError, hint=endpoints.alternatives(model, besides=backend))
    if status == 401:
        return _Rule(AuthenticationError, hint="Check the API key: api_key=, or its variable.")
    if status == 403:
        return _Rule(PermissionDeniedError, hint="The key may not do this: check its rights, and the model's terms.")
    if status == 402 or (status == 429 and QUOTA.search(text)):
        return _Rule(RateLimitError, hint="The account's quota is used up: more of it, or another endpoint.")
    if status in (425, 429):
        return _Rule(RateLimitError, retryable=True, hint="Ask less often, or later.")
    if status in (498, 503, 529) or code.lower() in OVERLOADED_CODES:
        return _Rule(OverloadedError, retryable=True, hint="Try again later.")
    if status in (408, 504):
        hint = "Shorten the request, or raise the endpoint's own time limit."
        return _Rule(APITimeoutError, retryable=status == 408, hint=hint)
    if status == 404:
        served_model = f", and that it serves '{model}'" if model else ""
        return _Rule(APIStatusError, hint=f"Check the endpoint's url{served_model}.")
    if status < 500 and status not in (409, 424):
        return _Rule(APIStatusError, hint="The request is not as the endpoint wants it: change what it names.")
    retryable = status not in (501, 505)
    hint = "Try again later." if retryable else "Use what the endpoint can do."
    return _Rule(APIStatusError, retryable=retryable, hint=hint)


def context_length_error(message: str, error_body: ErrorBody, context_length: int | None) -> ContextLengthError:
    """Return the error of a prompt that is too long, with the server's numbers or else ``context_length``."""
    limit, requested = error_body.fields.get("n_ctx"), error_body.fields.get("n_prompt_tokens")
    if not isinstance(limit, int):
        match = re.search(
            r"(?:maximum context length is|limit of|maximum of|max(?:imum)?[^\d]{1,20})\s*(\d[\d,]+)",
            error_body.message,
        )
        limit = int(match[1].replace(",", "")) if match else context_length
    if not isinstance(requested, int):
        numbers = [int(digits.replace(",", "")) for digits in re.findall(r"\d[\d,]{2,}", error_body.message)]
        requested = max((number for number in numbers if limit is None or number > limit), default=None)
    hint = "Shorten the prompt, lower max_tokens, or use an endpoint with a longer context."
    return ContextLengthError(message, limit=limit, requested=requested, hint=hint)


def _redirect_rule(head: Head) -> _Rule:
    target = "elsewhere"
    try:
        url = urlsplit(head.headers.get("location", ""))
        if url.netloc:
            target = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}"
    except ValueError:
        pass
    detail = f"(a redirection to {_short(target)}), which is not followed: credentials go to the endpoint only."
    return _Rule(APIStatusError, hint="If that is where it is now, pass it as the endpoint's url.", detail=detail)


def _google_delay(body: Mapping[str, JsonValue]) -> float | None:
    """Return the seconds of Google's ``RetryInfo``."""
    details = body.get("details")
    for entry in details if isinstance(details, list) else ():
        value = entry.get("retryDelay") if isinstance(entry, dict) else None
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?s", value):
            return float(value[:-1])
    return None
