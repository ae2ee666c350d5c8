"""Reads the answers of Converse and ConverseStream."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Final

from llama4sdk.errors import APIError, APIStatusError, StreamInterruptedError
from llama4sdk.events import Event, Finish, FinishReason, TextDelta, ToolCallDelta, Usage
from llama4sdk.llama4.stop_strings import cut
from llama4sdk.remote.dialect import Head, Reader
from llama4sdk.remote.json_fields import as_object, as_objects, token_count
from llama4sdk_aws.aws_errors import ErrorFactory, event_frames
from llama4sdk_aws.frames import Frame, FrameDecoder

CONVERSE_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
CONVERSE_EVENTS: Final = frozenset(
    {"contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)
MAX_BODY_BYTES: Final = 64 * 2**20


class TextUntilStop:
    """Text in pieces, up to a stop string: not every model on Bedrock knows them, so they are looked for here."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._pending = ""
        self.stopped = False

    def feed(self, text: str) -> Iterator[Event]:
        """Yield the text in which no stop string can begin."""
        if self.stopped:
            return
        safe, self._pending, self.stopped = cut(self._pending + text, self._stops)
        if safe:
            yield TextDelta(text=safe)

    def end(self) -> Iterator[Event]:
        """Yield the text that could have begun a stop string."""
        if self._pending:
            yield TextDelta(text=self._pending)
            self._pending = ""


class WholeBodyReader(Reader):
    """Reads an answer that comes in one piece; ``read_body`` makes its events."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.head: Head | None = None
        self._body = bytearray()

    def begin(self, head: Head) -> None:
        """Keep the headers, which may have token counts."""
        self.head = head

    def feed(self, data: bytes) -> Iterable[Event]:
        """Collect the body. Raises APIError for one that is too large."""
        self._body += data
        if len(self._body) > MAX_BODY_BYTES:
            limit = MAX_BODY_BYTES // 2**20
            raise APIError(f"'{self.backend}' answered with more than {limit} MiB.", backend=self.backend)
        return ()

    def end(self) -> Iterable[Event]:
        """Return all events. Raises StreamInterruptedError for an incomplete answer."""
        return self.read_body(bytes(self._body))

    @abstractmethod
    def read_body(self, body: bytes) -> Iterable[Event]:
        """Return the events of the whole body."""


class ConverseReader(WholeBodyReader):
    """Reads the answer of Converse."""

    def __init__(self, backend: str, stops: tuple[str, ...]) -> None:
        super().__init__(backend)
        self._text = TextUntilStop(stops)

    def read_body(self, body: bytes) -> Iterator[Event]:
        """Yield text, then calls, then the end."""
        answer = decode_answer(body, self.backend)
        message = as_object(as_object(answer.get("output")).get("message"))
        if "stopReason" not in answer:
            raise incomplete_answer(self.backend)
        blocks = as_objects(message.get("content"))
        calls = [call for block in blocks if (call := as_object(block.get("toolUse")))]
        reason = _finish_reason(str(answer["stopReason"]), len(calls), self.backend)  # raises before the first event
        for block in blocks:
            yield from self._text.feed(str(block.get("text") or ""))
        yield from self._text.end()
        if self._text.stopped:
            calls, reason = [], "stop"
        for index, call in enumerate(calls):
            arguments = json.dumps(call.get("input") or {}, ensure_ascii=False)
            yield ToolCallDelta(index=index, id=call.get("toolUseId"), name=call.get("name"), arguments=arguments)
        yield Finish(reason=reason, usage=_usage(answer.get("usage")))


class ConverseStreamReader(Reader):
    """Reads the frames of ConverseStream."""

    def __init__(self, backend: str, stops: tuple[str, ...], to_error: ErrorFactory) -> None:
        self._backend = backend
        self._to_error = to_error
        self._frames = FrameDecoder(backend)
        self._text = TextUntilStop(stops)
        self._call_by_block: dict[int, int] = {}
        self._blocks_without_arguments: set[int] = set()
        self._stop_reason: str | None = None
        self._usage = Usage()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events of the frames that are complete now."""
        for frame in event_frames(self._frames.feed(data), self._to_error):
            yield from self._read_frame(frame)

    def end(self) -> Iterator[Event]:
        """Yield the ``Finish``. Raises StreamInterruptedError where no end was announced."""
        reason: FinishReason = "stop"
        if not self._text.stopped:
            self._frames.end()
            if self._stop_reason is None:
                raise incomplete_answer(self._backend)
            reason = _finish_reason(self._stop_reason, len(self._call_by_block), self._backend)
        yield from self._text.end()
        yield Finish(reason=reason, usage=self._usage)

    def _read_frame(self, frame: Frame) -> Iterator[Event]:
        if frame.name not in CONVERSE_EVENTS:
            return
        fields = decode_answer(frame.payload, self._backend)
        block = token_count(fields, "contentBlockIndex") or 0
        match frame.name:
            case "contentBlockDelta":
                yield from self._read_delta(block, as_object(fields.get("delta")))
            case "contentBlockStart":
                if call := as_object(as_object(fields.get("start")).get("toolUse")):
                    index = self._call_by_block[block] = len(self._call_by_block)
                    self._blocks_without_arguments.add(block)
                    yield ToolCallDelta(index=index, id=call.get("toolUseId"), name=call.get("name"))
            case "contentBlockStop":
                if block in self._blocks_without_arguments:
                    self._blocks_without_arguments.discard(block)
                    yield ToolCallDelta(index=self._call_by_block[block], arguments="{}")
            case "messageStop":
                self._stop_reason = str(fields.get("stopReason"))
            case "metadata":  # comes after messageStop, and nothing after it
                self._usage = _usage(fields.get("usage"))
                self.done = self._stop_reason is not None

    def _read_delta(self, block: int, delta: dict[str, Any]) -> Iterator[Event]:
        if isinstance(text := delta.get("text"), str):
            yield from self._text.feed(text)
            self.done = self.done or self._text.stopped
        elif arguments := as_object(delta.get("toolUse")).get("input"):
            self._blocks_without_arguments.discard(block)
            yield ToolCallDelta(index=self._call_by_block.get(block, 0), arguments=str(arguments))


def decode_answer(body: bytes, backend: str) -> dict[str, Any]:
    """Decode a JSON object, empty for other JSON. Raises StreamInterruptedError for incomplete JSON."""
    try:
        return as_object(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise StreamInterruptedError(
            f"'{backend}' sent no whole JSON.", hint="Asking again starts a new answer."
        ) from error


def incomplete_answer(backend: str) -> StreamInterruptedError:
    """Return the error of an answer without its end."""
    return StreamInterruptedError(
        f"The answer from '{backend}' ends without its finish marker.", hint="Asking again starts a new answer."
    )


def _usage(value: object) -> Usage:
    counts = as_object(value)
    return Usage(
        input_tokens=token_count(counts, "inputTokens"),
        output_tokens=token_count(counts, "outputTokens"),
        cached_tokens=token_count(counts, "cacheReadInputTokens"),
    )


def _finish_reason(stop_reason: str, calls: int, backend: str) -> FinishReason:
    """Return the SDK's reason. Raises APIStatusError for an unknown one: no such answer passes for a whole one."""
    if stop_reason in CONVERSE_FINISH_REASONS:
        return "tool_calls" if calls and stop_reason == "end_turn" else CONVERSE_FINISH_REASONS[stop_reason]
    is_malformed = stop_reason.startswith("malformed_")
    raise APIStatusError(
        f"The answer from '{backend}' ended with '{stop_reason}'.",
        backend=backend,
        retryable=is_malformed,
        hint="The model wrote what Bedrock could not read: ask again."
        if is_malformed
        else "Look it up in AWS' manual.",
    )
