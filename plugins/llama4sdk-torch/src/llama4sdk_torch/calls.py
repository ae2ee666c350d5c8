"""From the text of an answer to its events, tool calls told apart where the request has tools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from llama4sdk.events import FinishReason, TextDelta, TokenLogprob, ToolCallDelta
from llama4sdk.llama4.prompt import Llama4Prompt
from llama4sdk.llama4.template import ChatTemplate
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.llama4.toolcalls import MARKS, ToolCallParser
from llama4sdk.requests import Request

__all__ = ["AnswerEvents", "offered", "prompt_format", "visible_marks"]


def offered(request: Request) -> Request:
    """The request with the tools that the model is told of: none where it may call none."""
    return request.model_copy(update={"tools": ()}) if request.tool_choice == "none" else request


def prompt_format(template: ChatTemplate | Llama4Prompt, request: Request) -> ChatTemplate | Llama4Prompt:
    """A call that is forced is JSON, so that is what Llama 4's own prompt asks for."""
    if request.forced_calls and isinstance(template, Llama4Prompt):
        return replace(template, tool_style="json")
    return template


def visible_marks(tokenizer: Tokenizer, request: Request) -> dict[int, str]:
    """The control tokens that must reach the parser of tool calls, and how it knows them."""
    return {tokenizer.control[mark]: mark for mark in MARKS if mark in tokenizer.control} if request.tools else {}


class AnswerEvents:
    """Passes text on; for a request with tools, tells the calls in it apart.

    Ids are counted through the conversation, so that no two calls share one.
    """

    def __init__(self, request: Request) -> None:
        earlier = sum(len(message.tool_calls) for message in request.messages)
        names = [tool.name for tool in request.tools]
        self._parser = ToolCallParser(names, first=earlier) if request.tools else None
        self._logprobs: tuple[TokenLogprob, ...] = ()

    def read(self, delta: TextDelta | None, *, last: bool) -> Iterator[TextDelta | ToolCallDelta]:
        """The events that this text makes certain. Log-probabilities go with the next text, or come at the end."""
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
        """An answer that ended by itself and called tools wants their results."""
        return "tool_calls" if finished == "stop" and self._parser and self._parser.calls else finished

    def _with_logprobs(self, text: str) -> TextDelta:
        logprobs, self._logprobs = self._logprobs, ()
        return TextDelta(text=text, logprobs=logprobs)
