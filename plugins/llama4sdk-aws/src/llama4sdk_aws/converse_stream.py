"""What Converse and ConverseStream answer, as events."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from llama4sdk.errors import APIError, APIStatusError, Llama4Error, StreamInterruptedError
from llama4sdk.events import Event, Finish, FinishReason, TextDelta, ToolCallDelta, Usage
from llama4sdk.llama4.stop_strings import cut
from llama4sdk.remote.dialect import Head, Reader
from llama4sdk_aws import failures
from llama4sdk_aws.frames import Frame, FrameDecoder

__all__ = ["ConverseReader", "ConverseStreamReader", "Judge", "Text", "WholeReader", "cut_off", "number", "parsed"]

REASONS: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
LARGEST: Final = 64 * 2**20
"""Bytes of a whole answer."""


class Judge(Protocol):
    """Makes the SDK's error of what an endpoint tells."""

    def __call__(self, told: failures.Told, /) -> Llama4Error:
        """The error to raise."""
        ...


class Text:
    """Text in pieces, up to a stop string: not every model on Bedrock knows them, so they are looked for here."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> Iterator[Event]:
        """What may be shown of it."""
        if not self._stops:
            if text:
                yield TextDelta(text=text)
            return
        if self.stopped:
            return
        safe, self._held, self.stopped = cut(self._held + text, self._stops)
        if safe:
            yield TextDelta(text=safe)

    def end(self) -> Iterator[Event]:
        """What was held back for the beginning of a stop string."""
        if self._held:
            yield TextDelta(text=self._held)
            self._held = ""


class WholeReader(Reader):
    """Of an answer that comes in one piece; ``read`` makes its events."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.head: Head | None = None
        self._body = bytearray()

    def begin(self, head: Head) -> None:
        """Counts of tokens may stand in the headers."""
        self.head = head

    def feed(self, data: bytes) -> Iterable[Event]:
        """Nothing yet."""
        self._body += data
        if len(self._body) > LARGEST:
            raise APIError(f"'{self.backend}' answered with more than {LARGEST // 2**20} MiB.", backend=self.backend)
        return ()

    def end(self) -> Iterable[Event]:
        """Everything. Raises StreamInterruptedError for half an answer."""
        return self.read(bytes(self._body))

    @abstractmethod
    def read(self, body: bytes) -> Iterable[Event]:
        """The events of the whole body."""


class ConverseReader(WholeReader):
    """The answer of Converse: all of it as if it had come at once."""

    def __init__(self, backend: str, stops: tuple[str, ...]) -> None:
        super().__init__(backend)
        self._text = Text(stops)

    def read(self, body: bytes) -> Iterator[Event]:
        """Text, then calls, then the end."""
        answer = parsed(body, self.backend)
        message = _object(_object(answer.get("output")).get("message"))
        if "stopReason" not in answer:
            raise cut_off(self.backend)
        blocks = [_object(block) for block in message.get("content") or ()]
        calls = [use for block in blocks if (use := _object(block.get("toolUse")))]
        reason = _reason(str(answer["stopReason"]), len(calls), self.backend)  # raises before anything is given out
        for block in blocks:
            yield from self._text.feed(str(block.get("text") or ""))
        yield from self._text.end()
        if self._text.stopped:
            calls, reason = [], "stop"
        for index, use in enumerate(calls):
            arguments = json.dumps(use.get("input") or {}, ensure_ascii=False)
            yield ToolCallDelta(index=index, id=use.get("toolUseId"), name=use.get("name"), arguments=arguments)
        yield Finish(reason=reason, usage=_usage(answer.get("usage")))


class ConverseStreamReader(Reader):
    """The frames of ConverseStream."""

    def __init__(self, backend: str, stops: tuple[str, ...], judge: Judge) -> None:
        self._backend = backend
        self._judge = judge
        self._frames = FrameDecoder(backend)
        self._text = Text(stops)
        self._calls: dict[int, int] = {}
        """Number of the call that a block holds."""
        self._empty: set[int] = set()
        """Blocks whose call has no arguments yet."""
        self._stop: str | None = None
        self._usage = Usage()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events of the frames that are whole now."""
        for frame in self._frames.feed(data):
            if frame.kind != "event":
                raise self._judge(failures.of_frame(frame))
            yield from self._event(frame)

    def end(self) -> Iterator[Event]:
        """The ``Finish``. Raises StreamInterruptedError where no end was announced."""
        if not self._text.stopped:
            self._frames.end()
            if self._stop is None:
                raise cut_off(self._backend)
        reason = "stop" if self._text.stopped else _reason(str(self._stop), len(self._calls), self._backend)
        yield from self._text.end()
        yield Finish(reason=reason, usage=self._usage)

    def _event(self, frame: Frame) -> Iterator[Event]:
        name = frame.name
        if name == "contentBlockDelta":
            value = parsed(frame.payload, self._backend)
            delta = _object(value.get("delta"))
            if isinstance(text := delta.get("text"), str):
                yield from self._text.feed(text)
                self.done = self.done or self._text.stopped
            elif fragment := _object(delta.get("toolUse")).get("input"):
                index = number(value, "contentBlockIndex") or 0
                self._empty.discard(index)
                yield ToolCallDelta(index=self._calls.get(index, 0), arguments=str(fragment))
        elif name == "contentBlockStart":
            value = parsed(frame.payload, self._backend)
            if use := _object(_object(value.get("start")).get("toolUse")):
                index = number(value, "contentBlockIndex") or 0
                self._calls[index] = len(self._calls)
                self._empty.add(index)
                yield ToolCallDelta(index=self._calls[index], id=use.get("toolUseId"), name=use.get("name"))
        elif name == "contentBlockStop":
            index = number(parsed(frame.payload, self._backend), "contentBlockIndex") or 0
            if index in self._empty:
                self._empty.discard(index)
                yield ToolCallDelta(index=self._calls[index], arguments="{}")
        elif name == "messageStop":
            self._stop = str(parsed(frame.payload, self._backend).get("stopReason"))
        elif name == "metadata":  # comes after messageStop, and nothing after it
            self._usage = _usage(parsed(frame.payload, self._backend).get("usage"))
            self.done = self._stop is not None


def parsed(body: bytes, backend: str) -> dict[str, Any]:
    """A JSON object. Raises StreamInterruptedError for one that is cut off, or none."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise StreamInterruptedError(
            f"'{backend}' sent no whole JSON.", hint="Asking again starts a new answer."
        ) from error
    return _object(value)


def cut_off(backend: str) -> StreamInterruptedError:
    """An answer without its end."""
    return StreamInterruptedError(
        f"The answer from '{backend}' ends without its finish marker.", hint="Asking again starts a new answer."
    )


def number(value: dict[str, Any], name: str) -> int | None:
    """A count, where it is one."""
    found = value.get(name)
    return found if isinstance(found, int) and not isinstance(found, bool) and found >= 0 else None


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _usage(value: object) -> Usage:
    counts = _object(value)
    return Usage(
        input_tokens=number(counts, "inputTokens"),
        output_tokens=number(counts, "outputTokens"),
        cached_tokens=number(counts, "cacheReadInputTokens"),
    )


def _reason(stop: str, calls: int, backend: str) -> FinishReason:
    """Raises APIStatusError for an end that is none of the SDK's: no such answer passes for a whole one."""
    if stop in REASONS:
        return "tool_calls" if calls and stop == "end_turn" else REASONS[stop]
    malformed = stop.startswith("malformed_")
    raise APIStatusError(
        f"The answer from '{backend}' ended with '{stop}'.",
        backend=backend,
        retryable=malformed,
        hint="The model wrote what Bedrock could not read: ask again." if malformed else "Look it up in AWS' manual.",
    )
