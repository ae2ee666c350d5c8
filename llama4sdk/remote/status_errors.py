"""What an HTTP error means, in the SDK's own errors. Pure.

Servers say the same thing in many ways; this knows those of OpenAI's protocol and of what speaks it. Sources: the error
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
from llama4sdk.remote.retired import gone

__all__ = ["Said", "failure", "retry_after", "said"]

LONGEST: Final = 500
"""Characters of a server's own words that an error repeats."""

LONGEST_PAGE: Final = 8192
"""Characters that are looked at of what is no JSON."""

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
GONE: Final = re.compile(
    r"model_decommissioned|decommissioned|model_not_available|retired|end of (its )?life", re.IGNORECASE
)
SHED: Final = frozenset({"queueoverflowerror", "overloaded_error", "unavailable_error", "unavailable"})


class Said(NamedTuple):
    """What an error's body says; every field is empty where it says nothing."""

    message: str
    code: str
    """Its own names for what went wrong, joined."""
    body: Mapping[str, JsonValue]


def said(body: bytes) -> Said:
    """Read whatever a server may put into an error: an object, a list, a string, a page, nothing."""
    text = body.decode("utf-8", "replace").replace("\x00", "").strip()
    try:
        value: JsonValue = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        page = text[:LONGEST_PAGE]
        words = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL | re.IGNORECASE)
        return Said(_short(" ".join(words.split())), "", {})
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return Said(_short(str(value)) if value else "", "", {})
    return _object(value)


def _object(value: dict[str, JsonValue]) -> Said:
    inner = value.get("error", value)
    if not isinstance(inner, dict):
        kind = value.get("error_type", "")
        return Said(_short(str(inner or "")), _short(str(kind)), value)
    message = next((inner[key] for key in ("message", "Message", "detail", "error") if inner.get(key)), "")
    nested = inner.get("innererror")
    codes = [inner.get(key) for key in ("code", "type", "status", "object")]
    codes += [nested.get("code")] if isinstance(nested, dict) else []
    told = " ".join(str(code) for code in codes if code not in (None, "", "error"))
    if isinstance(message, list):  # FastAPI's list of what is wrong with each field
        message = "; ".join(_field(entry) for entry in message)
    return Said(_short(str(message)), _short(told), inner)


def _field(entry: JsonValue) -> str:
    if not isinstance(entry, dict):
        return str(entry)
    place = entry.get("loc")
    where = ".".join(str(part) for part in place) if isinstance(place, list) else ""
    return f"{where}: {entry.get('msg', '')}".strip(": ")


def _short(message: str) -> str:
    message = " ".join(message.split())
    return message if len(message) <= LONGEST else f"{message[:LONGEST]}…"


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds the server asks to wait; ``now`` is the time of day, for dates. ``None`` where it does not."""
    for name, unit in (("retry-after-ms", 1000.0), ("x-amz-retry-after", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / unit
        except ValueError:
            until = _date(value)
            if until is None:
                continue
            seconds = until - (_date(headers.get("date", "")) or now)  # by the server's own clock, where it shows it
        if 0 <= seconds < float("inf"):
            return seconds
    return None


def _date(value: str) -> float | None:
    try:
        date = parsedate_to_datetime(value)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def failure(
    head: Head, body: bytes, *, backend: str, model: str, context: int | None = None, now: float
) -> Llama4Error:
    """The error of an answer with this status and body.

    ``context`` is the context length as far as it is known, ``now`` the time of day in seconds.
    """
    words = said(body)
    status, about = head.status, f"{words.code} {words.message}"
    what = f"'{backend}' answered {status}" + (f": {words.message}" if words.message else " and no explanation")
    what = what if what.endswith((".", "!", "?", "…")) else f"{what}."
    if status in (400, 413, 422, 424, 500) and TOO_LONG.search(about):
        return too_long(what, words, context)
    if status in (400, 403, 422) and FILTERED.search(about):
        return ContentFilteredError(what, hint="Rephrase the request, or change the endpoint's filter.")
    meaning = _redirected(head) if 300 <= status < 400 else _meaning(status, words, about, backend, model)
    wait = retry_after(head.headers, now=now)
    error = meaning.kind(
        what if not meaning.more else f"{what.rstrip('.')} {meaning.more}",
        backend=backend,
        status=status,
        request_id=head.request_id,
        retryable=meaning.again,
        hint=meaning.hint,
    )
    error.retry_after = _google_delay(words.body) if wait is None else wait
    if isinstance(error, APITimeoutError):
        error.phase = "first_byte"
    return error


class _Meaning(NamedTuple):
    kind: type[APIError]
    again: bool = False
    hint: str | None = None
    more: str = ""


def _meaning(status: int, words: Said, about: str, backend: str, model: str) -> _Meaning:
    if status in (400, 404, 410) and (GONE.search(about) or (status != 400 and gone(backend, model))):
        return _Meaning(ModelRetiredError, hint=endpoints.alternatives(model, besides=backend))
    if status == 401:
        return _Meaning(AuthenticationError, hint="Check the API key: api_key=, or its variable.")
    if status == 403:
        return _Meaning(PermissionDeniedError, hint="The key may not do this: check its rights, and the model's terms.")
    if status == 402 or (status == 429 and QUOTA.search(about)):
        return _Meaning(RateLimitError, hint="The account's quota is used up: more of it, or another endpoint.")
    if status in (425, 429):
        return _Meaning(RateLimitError, again=True, hint="Ask less often, or later.")
    if status in (498, 503, 529) or words.code.lower() in SHED:
        return _Meaning(OverloadedError, again=True, hint="Try again later.")
    if status in (408, 504):
        hint = "Shorten the request, or raise the endpoint's own time limit."
        return _Meaning(APITimeoutError, again=status == 408, hint=hint)
    if status == 404:
        served_there = f", and that it serves '{model}'" if model else ""
        return _Meaning(APIStatusError, hint=f"Check the endpoint's url{served_there}.")
    if status < 500 and status not in (409, 424):
        return _Meaning(APIStatusError, hint="The request is not as the endpoint wants it: change what it names.")
    again = status not in (501, 505)
    return _Meaning(APIStatusError, again=again, hint="Try again later." if again else "Use what the endpoint can do.")


def too_long(what: str, words: Said, context: int | None) -> ContextLengthError:
    """With the numbers the server named, or those that are known."""
    limit = words.body.get("n_ctx")
    asked = words.body.get("n_prompt_tokens")
    numbers = [int(found.replace(",", "")) for found in re.findall(r"\d[\d,]{2,}", words.message)]
    if not isinstance(limit, int):
        named = re.search(
            r"(?:maximum context length is|limit of|maximum of|max(?:imum)?[^\d]{1,20})\s*(\d[\d,]+)", words.message
        )
        limit = int(named[1].replace(",", "")) if named else context
    if not isinstance(asked, int):
        asked = max((number for number in numbers if limit is None or number > limit), default=None)
    hint = "Shorten the prompt, lower max_tokens, or use an endpoint with a longer context."
    return ContextLengthError(what, limit=limit, requested=asked, hint=hint)


def _redirected(head: Head) -> _Meaning:
    try:
        place = urlsplit(head.headers.get("location", ""))
        where = f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}" if place.netloc else "elsewhere"
    except ValueError:
        where = "elsewhere"
    more = f"(a redirection to {_short(where)}), which is not followed: credentials go to the endpoint only."
    return _Meaning(APIStatusError, hint="If that is where it is now, pass it as the endpoint's url.", more=more)


def _google_delay(body: Mapping[str, JsonValue]) -> float | None:
    """Google's ``RetryInfo``."""
    details = body.get("details")
    for entry in details if isinstance(details, list) else ():
        value = entry.get("retryDelay") if isinstance(entry, dict) else None
        if isinstance(value, str) and re.fullmatch(r"\d+(\.\d+)?s", value):
            return float(value[:-1])
    return None
