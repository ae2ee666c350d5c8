"""What those containers answer: lines of JSON, with or without ``data:`` before them, in Amazon's frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

from llama4sdk.errors import APIStatusError, Llama4Error
from llama4sdk.events import Event, Finish, FinishReason, ToolCallDelta, Usage
from llama4sdk.remote.dialect import Head, Reader
from llama4sdk.remote.sse import LineDecoder
from llama4sdk_aws import failures
from llama4sdk_aws.converse_stream import Judge, Text, cut_off, number
from llama4sdk_aws.frames import FrameDecoder

__all__ = ["Blame", "ContainerReader"]

Blame: TypeAlias = Callable[[int, bytes], Llama4Error]
"""The error of a container that answered with this status and body."""

REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class ContainerReader(Reader):
    """``PayloadPart`` frames hold pieces of the container's own stream, cut anywhere."""

    def __init__(self, backend: str, stops: tuple[str, ...], judge: Judge, blame: Blame) -> None:
        """``judge`` knows AWS' errors, ``blame`` those of containers."""
        self._backend = backend
        self._judge = judge
        self._blame = blame
        self._frames = FrameDecoder(backend)
        self._lines = LineDecoder()
        self._text = Text(stops)
        self._said = False
        self._reason: str | None = None
        self._usage = Usage()

    def begin(self, head: Head) -> None:
        """Nothing depends on the headers: what a line is, it shows itself."""

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events of the lines that are whole now."""
        for frame in self._frames.feed(data):
            if frame.kind != "event":
                raise self._judge(failures.of_frame(frame))
            if frame.name == "PayloadPart":
                for line in self._lines.feed(frame.payload):
                    yield from self._line(line)

    def end(self) -> Iterator[Event]:
        """The ``Finish``. Raises StreamInterruptedError where the container did not say that it was done."""
        if not self._text.stopped:
            self._frames.end()
            yield from self._line(self._lines.end())
            if self._reason is None:
                raise cut_off(self._backend)
        reason = "stop" if self._text.stopped else self._known(self._reason)
        yield from self._text.end()
        yield Finish(reason=reason, usage=self._usage)

    def _line(self, line: bytes) -> Iterator[Event]:
        line = line.strip().removeprefix(b"data:").strip()
        if line == b"[DONE]":
            self.done = self._reason is not None
            return
        if line[:1] not in (b"{", b"["):  # blank, a comment, a field of an event, the end
            return
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise cut_off(self._backend) from error
        value = value[0] if isinstance(value, list) and value else value
        if isinstance(value, dict):
            yield from self._take(value)

    def _take(self, value: dict[str, Any]) -> Iterator[Event]:
        if value.get("error") or value.get("error_message"):
            raise self._failed(value)
        if "choices" in value or value.get("object") == "chat.completion.chunk":
            yield from self._chat(value)
        else:
            yield from self._native(value)
        self.done = self.done or self._text.stopped

    def _chat(self, value: Mapping[str, Any]) -> Iterator[Event]:
        if isinstance(usage := value.get("usage"), dict):
            self._usage = Usage(
                input_tokens=number(usage, "prompt_tokens"), output_tokens=number(usage, "completion_tokens")
            )
        for choice in (value.get("choices") or ())[:1]:
            delta = choice.get("delta") or choice.get("message") or {}
            if isinstance(text := delta.get("content"), str):
                yield from self._text.feed(text)
            for place, call in enumerate(delta.get("tool_calls") or ()):
                function = call.get("function") or {}
                arguments = function.get("arguments") or ""
                yield ToolCallDelta(
                    index=call.get("index", place),
                    id=call.get("id"),
                    name=function.get("name"),
                    arguments=arguments if isinstance(arguments, str) else json.dumps(arguments),
                )
            self._reason = choice.get("finish_reason") or self._reason

    def _native(self, value: Mapping[str, Any]) -> Iterator[Event]:
        token = value.get("token")
        if isinstance(token, dict) and isinstance(text := token.get("text"), str) and not token.get("special"):
            self._said = True
            yield from self._text.feed(text)
        whole, details = value.get("generated_text"), value.get("details")
        if isinstance(whole, str):
            if not self._said:
                yield from self._text.feed(whole)
            details = details if isinstance(details, dict) else {}
            self._reason = str(details.get("finish_reason") or "eos_token")
            if self._reason == "error":
                raise self._failed(details)
            self._usage = Usage(
                input_tokens=number(details, "input_length") or number(details, "prompt_tokens"),
                output_tokens=number(details, "generated_tokens"),
            )

    def _failed(self, value: dict[str, Any]) -> Llama4Error:
        """Errors come with status 200, too; some say which they mean."""
        inner = value.get("error")
        status = number(value, "code") or (number(inner, "code") if isinstance(inner, dict) else None)
        said = inner or value.get("error_message") or "the model failed"
        return self._blame(status or 424, json.dumps({"error": said, "type": value.get("error_type")}).encode())

    def _known(self, reason: str | None) -> FinishReason:
        if reason in REASONS:
            return REASONS[reason]
        raise APIStatusError(
            f"The answer from '{self._backend}' ended with '{reason}'.",
            backend=self._backend,
            hint="The container's log says why.",
        )
