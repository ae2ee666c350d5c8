"""Makes events of the lines of JSON that Ollama answers with."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json

from llama4sdk.errors import APIError, APIStatusError, ContextLengthError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, FinishReason, TextDelta, TokenLogprob, ToolCallDelta, TopLogprob, Usage
from llama4sdk.remote.dialect import Reader
from llama4sdk.remote.sse import LineDecoder
from llama4sdk.remote.status_errors import TOO_LONG, said, too_long
from llama4sdk_ollama.address import BACKEND

__all__ = ["OllamaReader", "count_in", "read_line"]

SLACK: Final = 16
"""Tokens that may be missing all the same: templates drop blanks and old thoughts."""


class OllamaReader(Reader):
    """Of one answer. ``fewest`` tokens at least are in its prompt; ``first`` calls of tools came before it."""

    def __init__(self, *, context: int, fewest: int, first: int, top: int | None) -> None:
        self._context = context
        self._fewest = fewest
        self._first = first
        self._top = top or 0
        self._lines = LineDecoder()
        self._calls = 0
        self._logprobs: list[TokenLogprob] = []
        self._last: dict[str, JsonValue] = {}

    def feed(self, data: bytes) -> Iterator[Event]:
        """Text, and calls of tools, each whole."""
        for line in self._lines.feed(data):
            yield from self._line(line)

    def end(self) -> Iterable[Event]:
        """Raises ContextLengthError where the server read less of the prompt than there was."""
        events = list(self._line(self._lines.end()))
        if not self.done:
            raise StreamInterruptedError("Ollama's answer ended in its middle.", hint="Ask again for a new answer.")
        read, written = count_in(self._last, "prompt_eval_count"), count_in(self._last, "eval_count")
        if error := _dropped(read, self._fewest, self._context):
            raise error
        if self._logprobs:
            events.append(TextDelta(text="", logprobs=tuple(self._logprobs)))
        reason: FinishReason = "length" if self._last.get("done_reason") == "length" else "stop"
        if self._calls and reason == "stop":
            reason = "tool_calls"
        return [*events, Finish(reason=reason, usage=Usage(input_tokens=read, output_tokens=written))]

    def _line(self, line: bytes) -> Iterator[Event]:
        if self.done or not line.strip():
            return
        told = read_line(line)
        if "error" in told:
            raise _failed(line, self._context)
        message = told.get("message")
        message = message if isinstance(message, dict) else {}
        self._logprobs += _logprobs(told.get("logprobs"), self._top)
        text = message.get("content") or told.get("response")
        if isinstance(text, str) and text:
            yield TextDelta(text=text, logprobs=tuple(self._logprobs))
            self._logprobs = []
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            yield self._call(call)
        if told.get("done") is True:
            self.done, self._last = True, told

    def _call(self, call: JsonValue) -> ToolCallDelta:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(call, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise _damaged()
        index, self._calls = self._calls, self._calls + 1
        arguments = function.get("arguments")
        return ToolCallDelta(
            index=index,
            id=str(call.get("id") or f"call_{self._first + index}"),
            name=str(function["name"]),
            arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False),
        )


def read_line(line: bytes) -> dict[str, JsonValue]:
    """One line of an answer. Raises APIError for what is no JSON object."""
    try:
        told = from_json(line)
    except ValueError as error:
        raise _damaged() from error
    if not isinstance(told, dict):
        raise _damaged()
    return told


def count_in(told: dict[str, JsonValue], name: str) -> int | None:
    """A number of tokens, where there is one."""
    value = told.get(name)
    return value if isinstance(value, int) and value >= 0 else None


def _failed(line: bytes, context: int) -> Llama4Error:
    """What an error within an answer means."""
    words = said(line)
    what = f"Ollama failed while it answered: {words.message or 'it does not say why'}."
    if TOO_LONG.search(words.message):
        return too_long(what, words, context)
    return APIStatusError(what, backend=BACKEND, retryable=True, hint="The server's log says more.")


def _dropped(read: int | None, fewest: int, context: int) -> ContextLengthError | None:
    """The error where ``read`` tokens cannot be all of at least ``fewest``, or are all there was room for."""
    if read is None:
        return None
    if read >= context:
        told = f"Ollama read {read} tokens, all that its context holds: the prompt was cut, or leaves no room."
    elif read < fewest - SLACK:
        told = f"Ollama read {read} tokens of a prompt of {fewest} or more, and dropped the rest without a word."
    else:
        return None
    return ContextLengthError(
        told,
        limit=context,
        requested=max(fewest, read + 1),
        hint="Shorten the prompt, or ask for a larger context_length. Ollama says so itself since 0.12.6.",
    )


def _logprobs(told: JsonValue, top: int) -> list[TokenLogprob]:
    return [
        TokenLogprob(token=token, logprob=value, top=tuple(_top(entry.get("top_logprobs"), top)))
        for entry in (told if isinstance(told, list) else ())
        if isinstance(entry, dict)
        for token, value in (_likelihood(entry),)
    ]


def _top(told: JsonValue, most: int) -> Iterator[TopLogprob]:
    for entry in (told if isinstance(told, list) else [])[:most]:
        if isinstance(entry, dict):
            token, value = _likelihood(entry)
            yield TopLogprob(token=token, logprob=value)


def _likelihood(entry: dict[str, JsonValue]) -> tuple[str, float]:
    value = entry.get("logprob")
    if not isinstance(value, int | float):
        raise _damaged()
    return str(entry.get("token", "")), min(0.0, float(value))


def _damaged() -> APIError:
    return APIError(
        "What answers as Ollama sent a line that is none of Ollama's.",
        backend=BACKEND,
        hint="Check the address, and what stands between here and the server.",
    )
