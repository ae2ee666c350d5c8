"""Reads answers of OpenAI's protocol, as server-sent chunks or as one object. Pure.

Servers differ in where they put things; all places are read whoever the server is: logprobs as a list of objects or as
parallel arrays, usage on its own chunk, on the last or on every one, tool calls in any fragments.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from llama4sdk.errors import APIError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, FinishReason, TextDelta, TokenLogprob, Usage
from llama4sdk.llama4.toolcalls import ToolCallParser
from llama4sdk.remote.chat_messages import FINISH_REASONS, parse_usage
from llama4sdk.remote.dialect import Head, Reader
from llama4sdk.remote.json_fields import as_object, as_objects, parse_logprobs, token_count
from llama4sdk.remote.sse import SSEDecoder
from llama4sdk.remote.status_errors import status_error
from llama4sdk.remote.tool_call_fragments import ToolCallAssembler
from llama4sdk_openai.profiles import Profile

#: HTTP statuses of errors within an answer that name none, by words in their type.
STATUS_BY_ERROR_TYPE: Final = (
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


class ChatReader(Reader):
    """Reads the answer to a chat or a completion, streamed or whole by its content type."""

    def __init__(
        self,
        profile: Profile,
        model: str,
        context_length: int,
        *,
        max_alternatives: int,
        call_parser: ToolCallParser | None = None,
    ) -> None:
        """``max_alternatives`` limits logprobs; ``call_parser`` finds tool calls that were left in the text."""
        self._profile = profile
        self._model = model
        self._context_length = context_length
        self._max_alternatives = max_alternatives
        self._call_parser = call_parser
        self._decoder = SSEDecoder()
        self._whole_body: bytearray | None = None
        self._head = Head(200, {})
        self._calls = ToolCallAssembler()
        self._reason: str | None = None
        self._usage: Mapping[str, Any] = {}
        self._timings: Mapping[str, Any] = {}
        self._refused = False
        self._high_surrogate = ""

    def begin(self, head: Head) -> None:
        """Take the content type and the request's id from the answer's head."""
        self._head = head
        if "json" in head.headers.get("content-type", ""):
            self._whole_body = bytearray()

    def feed(self, data: bytes) -> Iterable[Event]:
        """Yield the events that these bytes complete."""
        if self._whole_body is not None:
            self._whole_body += data
            return
        for event in self._decoder.feed(data):
            if self.done:
                return
            if event.data.startswith(b"[DONE]"):
                self.done = True
            elif event.data:
                yield from self._read_chunk(event.data, is_error=event.name == "error")

    def end(self) -> Iterable[Event]:
        """Yield what is left, then the ``Finish``. Raises StreamInterruptedError for an answer without its end."""
        if self._whole_body is not None:
            yield from self._read_chunk(bytes(self._whole_body), is_error=False)
        elif not self.done and (last := self._decoder.end()) is not None and not last.data.startswith(b"[DONE]"):
            yield from self._read_chunk(last.data, is_error=last.name == "error")
        if self._reason is None:
            raise StreamInterruptedError(
                f"The answer from '{self._profile.name}' ended without saying that it was complete.",
                hint="What had arrived is in the error's .partial. Asking again starts a new answer.",
            )
        if self._call_parser is not None:
            yield from self._call_parser.end()
        self._calls.end(self._profile.name)
        yield Finish(reason=self._finish_reason(self._reason), usage=self._final_usage())

    def _read_chunk(self, data: bytes, *, is_error: bool) -> Iterator[Event]:
        chunk = self._decode_chunk(data)
        groq = as_object(chunk.get("x_groq"))
        if is_error or chunk.get("error") or chunk.get("object") == "error":
            raise self._error_in_answer(data, chunk)
        if groq.get("error"):
            raise self._error_in_answer(json.dumps({"error": groq["error"]}).encode(), groq)
        self._usage = as_object(chunk.get("usage") or groq.get("usage")) or self._usage
        self._timings = as_object(chunk.get("timings")) or self._timings
        for choice in as_objects(chunk.get("choices")):
            if not choice.get("index"):
                try:
                    yield from self._read_choice(choice)
                except ValueError as error:
                    raise self._unreadable(data) from error

    def _decode_chunk(self, data: bytes) -> dict[str, Any]:
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._unreadable(data) from error
        if isinstance(chunk, dict):
            return chunk
        for entry in as_objects(chunk)[:1]:
            if "error" in entry:
                raise self._error_in_answer(data, entry)
        raise self._unreadable(data)

    def _read_choice(self, choice: Mapping[str, Any]) -> Iterator[Event]:
        delta = choice.get("delta") or choice.get("message")
        if not isinstance(delta, dict):
            delta = {"content": choice.get("text")}
        if refusal := delta.get("refusal"):
            self._refused = True
            yield TextDelta(text=str(refusal))
        text, logprobs = _content_text(delta.get("content")), choice.get("logprobs")
        if text or logprobs is not None:
            yield from self._text_events(text, parse_logprobs(logprobs, self._max_alternatives))
        yield from self._calls.feed(delta.get("tool_calls"))
        if reason := choice.get("finish_reason"):
            self._reason = str(reason)

    def _text_events(self, text: str, logprobs: tuple[TokenLogprob, ...]) -> Iterator[Event]:
        if not text.isascii() or self._high_surrogate:
            text = self._join_surrogates(text)
        if self._call_parser is None:
            if text or logprobs:
                yield TextDelta(text=text, logprobs=logprobs)
            return
        events = self._call_parser.push(text)
        if logprobs:
            yield TextDelta(text="", logprobs=logprobs)
        yield from events

    def _join_surrogates(self, text: str) -> str:
        """Join halves of a character that a server put into two deltas."""
        text, self._high_surrogate = self._high_surrogate + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._high_surrogate = text[:-1], text[-1]
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def _finish_reason(self, reason: str) -> FinishReason:
        if self._refused:
            return "content_filter"
        known = FINISH_REASONS.get(reason)
        if known is None:
            raise APIError(
                f"'{self._profile.name}' ended its answer with '{reason}', not because it was complete.",
                backend=self._profile.name,
                request_id=self._head.request_id,
                hint="What had arrived is in the error's .partial.",
            )
        has_calls = len(self._calls) or (self._call_parser is not None and self._call_parser.calls)
        return "tool_calls" if has_calls and known == "stop" else known

    def _final_usage(self) -> Usage:
        """Return the counts of the answer's usage, or of llama.cpp's timings."""
        if self._timings and not self._usage:
            cached, processed = token_count(self._timings, "cache_n"), token_count(self._timings, "prompt_n")
            return Usage(
                input_tokens=None if processed is None else processed + (cached or 0),
                output_tokens=token_count(self._timings, "predicted_n"),
                cached_tokens=cached,
            )
        usage, cost = parse_usage(self._usage), self._usage.get("cost")
        if self._profile.reports_cost and isinstance(cost, int | float):
            usage = usage.model_copy(update={"cost": float(cost)})
        return usage

    def _error_in_answer(self, data: bytes, chunk: Mapping[str, Any]) -> Llama4Error:
        """Return the error that this would have been with a status of its own."""
        head = Head(_error_status(chunk), self._head.headers)
        backend, context_length = self._profile.name, self._context_length
        return status_error(
            head, data, backend=backend, model=self._model, context_length=context_length, now=time.time()
        )

    def _unreadable(self, data: bytes) -> APIError:
        return APIError(
            f"'{self._profile.name}' sent what is no JSON within its answer: {data[:60]!r}.",
            backend=self._profile.name,
            request_id=self._head.request_id,
            hint="It does not speak the protocol expected, or its answer was cut.",
        )


def _content_text(content: object) -> str:
    """Return the text of a delta's content, which some servers send as a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text") or "") for part in as_objects(content))


def _error_status(chunk: Mapping[str, Any]) -> int:
    fields = as_object(chunk.get("error")) or chunk
    for name in ("code", "status_code", "http_status_code", "status"):
        value = fields.get(name)
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    words = " ".join(str(fields.get(name) or "") for name in ("type", "code", "status")).lower()
    return next((status for word, status in STATUS_BY_ERROR_TYPE if word in words), 500)
