"""Answers of OpenAI's protocol as events: server-sent chunks, or one object. Pure.

What differs between servers is read wherever it may stand, whoever sent it: logprobs as a list of objects or as
parallel arrays, usage on its own chunk, on the last or on every one, tool calls in any fragments.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from llama4sdk.errors import APIError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, FinishReason, TextDelta, Usage
from llama4sdk.llama4.toolcalls import ToolCallParser
from llama4sdk.remote.dialect import Head, Reader
from llama4sdk.remote.sse import SSEDecoder
from llama4sdk.remote.status_errors import failure
from llama4sdk_openai.logprobs import logprobs
from llama4sdk_openai.profiles import Profile
from llama4sdk_openai.toolcalls import ToolCalls

__all__ = ["AnswerReader"]

REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}

STATUSES: Final = (
    ("rate_limit", 429),
    ("overload", 503),
    ("unavailable", 503),
    ("auth", 401),
    ("permission", 403),
    ("not_found", 404),
    ("notfound", 404),
    ("exceed_context", 400),
    ("invalid", 400),
    ("badrequest", 400),
    ("validation", 422),
    ("timeout", 504),
)
"""What an error within an answer would have had for a status, by words in its type."""


class AnswerReader(Reader):
    """Reads one answer, streamed or not: what it is says its content type."""

    def __init__(
        self, profile: Profile, model: str, context: int, tops: int, rescue: ToolCallParser | None = None
    ) -> None:
        """``tops`` is the number of alternatives that were asked for; ``rescue`` finds calls left in the text."""
        self._profile = profile
        self._model = model
        self._context = context
        self._tops = tops
        self._rescue = rescue
        self._decoder = SSEDecoder()
        self._whole: bytearray | None = None
        self._head = Head(200, {})
        self._calls = ToolCalls()
        self._reason: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._timings: Mapping[str, Any] = {}
        self._refused = False
        self._half = ""

    def begin(self, head: Head) -> None:
        """Told what stands before the body."""
        self._head = head
        if "json" in head.headers.get("content-type", ""):
            self._whole = bytearray()

    def feed(self, data: bytes) -> Iterable[Event]:
        """The events these bytes complete."""
        if self._whole is not None:
            self._whole += data
            return
        for event in self._decoder.feed(data):
            if self.done:
                return
            if event.data.startswith(b"[DONE]"):
                self.done = True
            elif event.data:
                yield from self._chunk(event.data, failed=event.name == "error")

    def end(self) -> Iterable[Event]:
        """What is left, then the ``Finish``. Raises StreamInterruptedError for an answer without its end."""
        if self._whole is not None:
            yield from self._chunk(bytes(self._whole), failed=False)
        elif not self.done and (last := self._decoder.end()) is not None and not last.data.startswith(b"[DONE]"):
            yield from self._chunk(last.data, failed=last.name == "error")
        if self._reason is None:
            raise StreamInterruptedError(
                f"The answer from '{self._profile.name}' ended without saying that it was complete.",
                hint="What had arrived is in the error's .partial. Asking again starts a new answer.",
            )
        if self._rescue is not None:
            yield from self._rescue.end()
        self._calls.end(self._profile.name)
        yield Finish(reason=self._finish_reason(), usage=self._counted())

    def _chunk(self, data: bytes, *, failed: bool) -> Iterator[Event]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._garbled(data) from error
        if not isinstance(chunk, dict):
            if isinstance(chunk, list) and chunk and isinstance(chunk[0], dict) and "error" in chunk[0]:
                raise self._failure(data, chunk[0])
            raise self._garbled(data)
        groq = chunk.get("x_groq")
        if failed or chunk.get("error") or chunk.get("object") == "error":
            raise self._failure(data, chunk)
        if isinstance(groq, dict) and groq.get("error"):
            raise self._failure(json.dumps({"error": groq["error"]}).encode(), groq)
        usage = chunk.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
        if isinstance(usage, dict):
            self._usage = usage
        if isinstance(chunk.get("timings"), dict):
            self._timings = chunk["timings"]
        for choice in chunk.get("choices") or ():
            if isinstance(choice, dict) and not choice.get("index"):
                yield from self._choice(choice)

    def _choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        delta = choice.get("delta") or choice.get("message")
        if not isinstance(delta, dict):
            delta = {"content": choice.get("text")}
        if refusal := delta.get("refusal"):
            self._refused = True
            yield TextDelta(text=str(refusal))
        text = delta.get("content")
        seen = choice.get("logprobs")
        if text or seen is not None:
            yield from self._text(_plain(text), seen)
        if delta.get("tool_calls"):
            yield from self._calls.feed(delta["tool_calls"])
        reason = choice.get("finish_reason")
        if reason:
            self._reason = str(reason)

    def _text(self, text: str, seen: object) -> Iterator[Event]:
        if not text.isascii() or self._half:
            text = self._joined(text)
        told = logprobs(seen, self._tops) if seen is not None else ()
        if self._rescue is None:
            if text or told:
                yield TextDelta(text=text, logprobs=told)
            return
        pieces = self._rescue.push(text)
        if told:
            yield TextDelta(text="", logprobs=told)
        yield from pieces

    def _joined(self, text: str) -> str:
        """Halves of a character, which some servers cut, put together again."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _finish_reason(self) -> FinishReason:
        if self._refused:
            return "content_filter"
        known = REASONS.get(self._reason or "")
        if known is None:
            raise APIError(
                f"'{self._profile.name}' ended its answer with '{self._reason}', not because it was complete.",
                backend=self._profile.name,
                request_id=self._head.request_id,
                hint="What had arrived is in the error's .partial.",
            )
        called = len(self._calls) or (self._rescue is not None and self._rescue.calls)
        return "tool_calls" if called and known == "stop" else known

    def _counted(self) -> Usage:
        usage, timings = self._usage, self._timings
        if not usage and timings:
            cached = _count(timings.get("cache_n"))
            read = _count(timings.get("prompt_n"))
            return Usage(
                input_tokens=None if read is None else read + (cached or 0),
                output_tokens=_count(timings.get("predicted_n")),
                cached_tokens=cached,
            )
        details = usage.get("prompt_tokens_details")
        cost = usage.get("cost") if self._profile.tells_cost else None
        return Usage(
            input_tokens=_count(usage.get("prompt_tokens")),
            output_tokens=_count(usage.get("completion_tokens")),
            cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
            cost=float(cost) if isinstance(cost, int | float) else None,
        )

    def _failure(self, data: bytes, chunk: Mapping[str, Any]) -> Llama4Error:
        """An error within an answer, as if it had been one from the start."""
        head = Head(_status(chunk), self._head.headers)
        return failure(
            head, data, backend=self._profile.name, model=self._model, context=self._context, now=time.time()
        )

    def _garbled(self, data: bytes) -> APIError:
        return APIError(
            f"'{self._profile.name}' sent what is no JSON within its answer: {data[:60]!r}.",
            backend=self._profile.name,
            request_id=self._head.request_id,
            hint="It does not speak the protocol expected, or its answer was cut.",
        )


def _plain(text: object) -> str:
    """The text of a delta: mostly that itself, of some servers a list of parts."""
    if isinstance(text, str):
        return text
    if isinstance(text, list):
        return "".join(str(part.get("text") or "") for part in text if isinstance(part, dict))
    return ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _status(chunk: Mapping[str, Any]) -> int:
    inner = chunk.get("error")
    fields = inner if isinstance(inner, dict) else chunk
    for name in ("code", "status_code", "http_status_code", "status"):
        value = fields.get(name)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    told = " ".join(str(fields.get(name) or "") for name in ("type", "code", "status")).lower()
    return next((status for word, status in STATUSES if word in told), 500)
