"""Reads containers' answers: lines of JSON, with or without ``data:`` before them, in Amazon's frames."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from llama4sdk.errors import APIStatusError, Llama4Error
from llama4sdk.events import Event, Finish, FinishReason, Usage
from llama4sdk.remote.chat_messages import FINISH_REASONS, parse_usage
from llama4sdk.remote.dialect import Reader
from llama4sdk.remote.json_fields import as_object, as_objects, token_count
from llama4sdk.remote.sse import LineDecoder
from llama4sdk.remote.tool_call_fragments import ToolCallAssembler
from llama4sdk_aws.aws_errors import ErrorFactory, event_frames
from llama4sdk_aws.converse_stream import TextUntilStop, incomplete_answer
from llama4sdk_aws.frames import FrameDecoder

#: Makes the error of a container that answered with this status and body.
ContainerErrorFactory: TypeAlias = Callable[[int, bytes], Llama4Error]


class ContainerReader(Reader):
    """Reads ``PayloadPart`` frames, which hold pieces of the container's own stream, cut anywhere."""

    def __init__(
        self, backend: str, stops: tuple[str, ...], aws_error: ErrorFactory, container_error: ContainerErrorFactory
    ) -> None:
        self._backend = backend
        self._aws_error = aws_error
        self._container_error = container_error
        self._frames = FrameDecoder(backend)
        self._lines = LineDecoder()
        self._text = TextUntilStop(stops)
        self._calls = ToolCallAssembler()
        self._has_tokens = False
        self._reason: str | None = None
        self._usage = Usage()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events of the lines that are complete now."""
        for frame in event_frames(self._frames.feed(data), self._aws_error):
            if frame.name == "PayloadPart":
                for line in self._lines.feed(frame.payload):
                    yield from self._read_line(line)

    def end(self) -> Iterator[Event]:
        """Yield the ``Finish``. Raises StreamInterruptedError where the container did not say that it was done."""
        if not self._text.stopped:
            self._frames.end()
            yield from self._read_line(self._lines.end())
            if self._reason is None:
                raise incomplete_answer(self._backend)
            self._calls.end(self._backend)
        reason = "stop" if self._text.stopped else self._finish_reason(str(self._reason))
        yield from self._text.end()
        yield Finish(reason=reason, usage=self._usage)

    def _read_line(self, line: bytes) -> Iterator[Event]:
        line = line.strip().removeprefix(b"data:").strip()
        if line == b"[DONE]":
            self.done = self._reason is not None
            return
        if line[:1] not in (b"{", b"["):  # blank, a comment, a field of an event, the end
            return
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise incomplete_answer(self._backend) from error
        for fields in as_objects(value)[:1] if isinstance(value, list) else [value]:
            yield from self._read_object(fields)

    def _read_object(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        if fields.get("error") or fields.get("error_message"):
            raise self._error_in_answer(fields)
        if "choices" in fields or fields.get("object") == "chat.completion.chunk":
            yield from self._read_chat(fields)
        else:
            yield from self._read_generation(fields)
        self.done = self.done or self._text.stopped

    def _read_chat(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        if usage := as_object(fields.get("usage")):
            self._usage = parse_usage(usage)
        for choice in as_objects(fields.get("choices"))[:1]:
            delta = as_object(choice.get("delta") or choice.get("message"))
            if isinstance(text := delta.get("content"), str):
                yield from self._text.feed(text)
            yield from self._calls.feed(delta.get("tool_calls"))
            self._reason = choice.get("finish_reason") or self._reason

    def _read_generation(self, fields: Mapping[str, Any]) -> Iterator[Event]:
        """Read TGI's form: a token a line, the last with the whole text and the counts."""
        token = as_object(fields.get("token"))
        if isinstance(text := token.get("text"), str) and not token.get("special"):
            self._has_tokens = True
            yield from self._text.feed(text)
        whole_text = fields.get("generated_text")
        if not isinstance(whole_text, str):
            return
        if not self._has_tokens:
            yield from self._text.feed(whole_text)
        details = as_object(fields.get("details"))
        self._reason = str(details.get("finish_reason") or "eos_token")
        if self._reason == "error":
            raise self._error_in_answer(details)
        self._usage = Usage(
            input_tokens=token_count(details, "input_length") or token_count(details, "prompt_tokens"),
            output_tokens=token_count(details, "generated_tokens"),
        )

    def _error_in_answer(self, fields: Mapping[str, Any]) -> Llama4Error:
        """Return the error of an answer with status 200; some name the status they mean."""
        error = fields.get("error")
        status = token_count(fields, "code") or token_count(as_object(error), "code") or 424
        message = error or fields.get("error_message") or "the model failed"
        return self._container_error(status, json.dumps({"error": message, "type": fields.get("error_type")}).encode())

    def _finish_reason(self, reason: str) -> FinishReason:
        if reason in FINISH_REASONS:
            return FINISH_REASONS[reason]
        raise APIStatusError(
            f"The answer from '{self._backend}' ended with '{reason}'.",
            backend=self._backend,
            hint="The container's log says why.",
        )
