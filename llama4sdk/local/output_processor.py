"""From the tokens of an answer to its text, and from text to events: text deltas and tool calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from llama4sdk.events import FinishReason, TextDelta, TokenLogprob, ToolCallDelta, TopLogprob
from llama4sdk.llama4.chat_template import ChatTemplate
from llama4sdk.llama4.prompt_format import Llama4Prompt
from llama4sdk.llama4.stop_strings import cut
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.llama4.toolcalls import PARSER_TOKENS, ToolCallParser
from llama4sdk.local.sequence import Token
from llama4sdk.requests import Request


def offered_tools(request: Request) -> Request:
    """The request with the tools that its prompt describes: none where ``tool_choice`` forbids calls."""
    return request.model_copy(update={"tools": ()}) if request.tool_choice == "none" else request


def prompt_format(template: ChatTemplate | Llama4Prompt, request: Request) -> ChatTemplate | Llama4Prompt:
    """The template for this request: a forced call is JSON, so Llama 4's own prompt asks for that form."""
    if request.forced_calls and isinstance(template, Llama4Prompt):
        return replace(template, tool_style="json")
    return template


def visible_marks(tokenizer: Tokenizer, request: Request) -> dict[int, str]:
    """The control tokens that must reach the parser of tool calls, with their text there."""
    return (
        {tokenizer.control[mark]: mark for mark in PARSER_TOKENS if mark in tokenizer.control} if request.tools else {}
    )


class Detokenizer:
    """Turns tokens into text deltas, and finds the end of the answer.

    ``finished`` is the reason of its end, once it has ended; ``count`` is the number of tokens drawn, the stopping one
    included. ``marks`` are control tokens that become text here: for the parser of tool calls, not for people.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop_ids: frozenset[int], stops: Sequence[str], marks: Mapping[int, str]
    ) -> None:
        self.count = 0
        self.finished: FinishReason | None = None
        self._tokenizer = tokenizer
        self._decode = tokenizer.detokenizer()
        self._stop_ids = stop_ids
        self._stops = stops
        self._marks = marks
        self._pending = ""
        self._logprobs: list[TokenLogprob] = []

    def push(self, token: Token) -> TextDelta | None:
        """The text that is certain after this token; ``None`` when there is none yet."""
        self.count += 1
        if token.id in self._stop_ids:
            self.finished = "stop"
            return self._delta(self._pending)
        if token.logprob is not None:
            self._logprobs.append(self._token_logprob(token, token.logprob))
        safe, self._pending, stopped = cut(self._pending + self._token_text(token.id), self._stops)
        if stopped:
            self.finished = "stop"
        return self._delta(safe)

    def end(self, reason: FinishReason) -> TextDelta | None:
        """The text that was held back in case of a stop string, as no token will follow."""
        self.finished = reason
        return self._delta(self._pending)

    def _token_text(self, token: int) -> str:
        return self._decode(token) + self._marks.get(token, "")

    def _delta(self, text: str) -> TextDelta | None:
        """Log-probabilities wait for the text they belong to, or for the end."""
        if not text and not (self.finished and self._logprobs):
            return None
        logprobs, self._logprobs = tuple(self._logprobs), []
        return TextDelta(text=text, logprobs=logprobs)

    def _token_logprob(self, token: Token, logprob: float) -> TokenLogprob:
        top = tuple(TopLogprob(token=self._tokenizer.piece(other), logprob=value) for other, value in token.top)
        return TokenLogprob(token=self._tokenizer.piece(token.id), logprob=logprob, top=top)


class OutputProcessor:
    """Turns text into events; for a request with tools, parses the calls in it.

    Call ids are counted through the conversation, so that no two calls share one.
    """

    def __init__(self, request: Request) -> None:
        earlier = sum(len(message.tool_calls) for message in request.messages)
        names = [tool.name for tool in request.tools]
        self._parser = ToolCallParser(names, first=earlier) if request.tools else None
        self._logprobs: tuple[TokenLogprob, ...] = ()

    def read(self, delta: TextDelta | None, *, last: bool) -> Iterator[TextDelta | ToolCallDelta]:
        """The events that this text completes. Log-probabilities go with the next text, or come at the end."""
        if self._parser is None:
            if delta is not None:
                yield delta
            return
        if delta is not None:
            self._logprobs += delta.logprobs
        for event in [*self._parser.push(delta.text if delta else ""), *(self._parser.end() if last else ())]:
            yield self._with_logprobs(event.text) if isinstance(event, TextDelta) else event
        if last and self._logprobs:
            yield self._with_logprobs("")

    def reason(self, finished: FinishReason) -> FinishReason:
        """The finish reason: ``tool_calls`` for an answer that ended by itself and called tools."""
        return "tool_calls" if finished == "stop" and self._parser and self._parser.calls else finished

    def _with_logprobs(self, text: str) -> TextDelta:
        logprobs, self._logprobs = self._logprobs, ()
        return TextDelta(text=text, logprobs=logprobs)
