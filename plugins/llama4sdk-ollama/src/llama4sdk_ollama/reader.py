"""Reads the lines of JSON that Ollama answers with as events."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from llama4sdk.errors import APIError, APIStatusError, ContextLengthError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, FinishReason, TextDelta, TokenLogprob, ToolCallDelta, Usage
from llama4sdk.remote.dialect import Reader
from llama4sdk.remote.json_fields import as_object, decode_object, parse_logprobs, token_count
from llama4sdk.remote.sse import LineDecoder
from llama4sdk.remote.status_errors import TOO_LONG, context_length_error, parse_error_body
from llama4sdk_ollama.address import BACKEND

#: Tokens that a server may read less than the lower bound: templates drop blanks and earlier reasoning.
MISSING_TOKENS_ALLOWED: Final = 16


class OllamaReader(Reader):
    """Reads one answer.

    ``min_prompt_tokens`` is a lower bound of its prompt, ``earlier_calls`` the number of tool calls in the conversation
    before it, ``max_alternatives`` the number of logprobs that were asked for at each token.
    """

    def __init__(
        self, *, context_length: int, min_prompt_tokens: int, earlier_calls: int, max_alternatives: int
    ) -> None:
        self._context_length = context_length
        self._min_prompt_tokens = min_prompt_tokens
        self._earlier_calls = earlier_calls
        self._max_alternatives = max_alternatives
        self._lines = LineDecoder()
        self._calls = 0
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self._last: dict[str, Any] = {}

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield text, and tool calls, each whole."""
        for line in self._lines.feed(data):
            yield from self._read_line(line)

    def end(self) -> Iterable[Event]:
        """Return what is left and the ``Finish``. Raises ContextLengthError where the prompt was not read whole."""
        events = list(self._read_line(self._lines.end()))
        if not self.done:
            raise StreamInterruptedError("Ollama's answer ended in its middle.", hint="Ask again for a new answer.")
        prompt_tokens = token_count(self._last, "prompt_eval_count")
        self._check_prompt(prompt_tokens)
        if self._logprobs:
            events.append(TextDelta(text="", logprobs=self._logprobs))
        reason: FinishReason = "length" if self._last.get("done_reason") == "length" else "stop"
        if self._calls and reason == "stop":
            reason = "tool_calls"
        usage = Usage(input_tokens=prompt_tokens, output_tokens=token_count(self._last, "eval_count"))
        return [*events, Finish(reason=reason, usage=usage)]

    def _read_line(self, line: bytes) -> Iterator[Event]:
        if self.done or not line.strip():
            return
        fields = decode_line(line)
        if "error" in fields:
            raise _error_in_answer(line, self._context_length)
        message = as_object(fields.get("message"))
        try:
            self._logprobs += parse_logprobs(fields.get("logprobs"), self._max_alternatives)
        except ValueError as error:
            raise _damaged_line() from error
        text = message.get("content") or fields.get("response")
        if isinstance(text, str) and text:
            yield TextDelta(text=text, logprobs=self._logprobs)
            self._logprobs = ()
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            yield self._tool_call(as_object(call))
        if fields.get("done") is True:
            self.done, self._last = True, fields

    def _tool_call(self, call: Mapping[str, Any]) -> ToolCallDelta:
        function = as_object(call.get("function"))
        if not isinstance(function.get("name"), str):
            raise _damaged_line()
        index, self._calls = self._calls, self._calls + 1
        arguments = function.get("arguments")
        return ToolCallDelta(
            index=index,
            id=str(call.get("id") or f"call_{self._earlier_calls + index}"),
            name=function["name"],
            arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False),
        )

    def _check_prompt(self, prompt_tokens: int | None) -> None:
        """Raise ContextLengthError where the tokens read cannot be the whole prompt, or leave no room for an answer."""
        minimum = self._min_prompt_tokens
        if prompt_tokens is None:
            return
        if prompt_tokens >= self._context_length:
            fault = f"{prompt_tokens} tokens, all that its context holds: the prompt was cut, or leaves no room"
        elif prompt_tokens < minimum - MISSING_TOKENS_ALLOWED:
            fault = f"{prompt_tokens} tokens of a prompt of {minimum} or more, and dropped the rest without a word"
        else:
            return
        raise ContextLengthError(
            f"Ollama read {fault}.",
            limit=self._context_length,
            requested=max(minimum, prompt_tokens + 1),
            hint="Shorten the prompt, or ask for a larger context_length. Ollama says so itself since 0.12.6.",
        )


def decode_line(line: bytes) -> dict[str, Any]:
    """Decode one line of an answer. Raises APIError for anything but a JSON object."""
    try:
        return decode_object(line)
    except ValueError as error:
        raise _damaged_line() from error


def _error_in_answer(line: bytes, context_length: int) -> Llama4Error:
    error_body = parse_error_body(line)
    message = f"Ollama failed while it answered: {error_body.message or 'it does not say why'}."
    if TOO_LONG.search(error_body.message):
        return context_length_error(message, error_body, context_length)
    return APIStatusError(message, backend=BACKEND, retryable=True, hint="The server's log says more.")


def _damaged_line() -> APIError:
    return APIError(
        "What answers as Ollama sent a line that is none of Ollama's.",
        backend=BACKEND,
        hint="Check the address, and what stands between here and the server.",
    )
