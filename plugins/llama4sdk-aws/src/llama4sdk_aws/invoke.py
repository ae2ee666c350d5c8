"""InvokeModel with the Llama schema: raw prompts, continued as they are."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator

from pydantic import JsonValue

from llama4sdk.events import Event, Finish, FinishReason, Usage
from llama4sdk.remote.dialect import Reader
from llama4sdk.requests import Request
from llama4sdk_aws import failures
from llama4sdk_aws.converse import check_sampling
from llama4sdk_aws.converse_stream import Judge, Text, WholeReader, cut_off, number, parsed
from llama4sdk_aws.frames import FrameDecoder
from llama4sdk_aws.options import BedrockOptions

__all__ = ["InvokeReader", "InvokeStreamReader", "invoke_body", "invoke_headers"]


def invoke_body(request: Request, longest: int | None) -> dict[str, JsonValue]:
    """The prompt as given. Without ``max_tokens`` up to ``longest``: Bedrock's own default is 512."""
    check_sampling(request)
    sampling = request.sampling
    body: dict[str, JsonValue] = {"prompt": request.prompt}
    if (limit := sampling.max_tokens or longest) is not None:
        body["max_gen_len"] = limit
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    return body


def invoke_headers(options: BedrockOptions, *, stream: bool = False) -> dict[str, str]:
    """What Converse has in its body."""
    headers = {
        "X-Amzn-Bedrock-GuardrailIdentifier": options.guardrail_id,
        "X-Amzn-Bedrock-GuardrailVersion": options.guardrail_version if options.guardrail_id else None,
        "X-Amzn-Bedrock-Trace": options.trace and options.trace.upper(),
        "X-Amzn-Bedrock-PerformanceConfig-Latency": options.latency,
        "X-Amzn-Bedrock-Service-Tier": options.service_tier,
        "X-Amzn-Bedrock-Request-Metadata": json.dumps(options.request_metadata) if options.request_metadata else None,
        "X-Amzn-Bedrock-Accept" if stream else "Accept": "application/json",
    }
    return {name: value for name, value in headers.items() if value}


class _Generation:
    """What a generation is made of, whole or in chunks."""

    def __init__(self, backend: str, stops: tuple[str, ...]) -> None:
        self.text = Text(stops)
        self._backend = backend
        self._stop: object = None
        self._filtered = False
        self._read: int | None = None
        self._written: int | None = None

    def take(self, chunk: dict[str, object]) -> Iterator[Event]:
        if isinstance(piece := chunk.get("generation"), str):
            yield from self.text.feed(piece)
        self._stop = chunk.get("stop_reason") or self._stop
        self._filtered = self._filtered or chunk.get("amazon-bedrock-guardrailAction") == "INTERVENED"
        if (read := number(chunk, "prompt_token_count")) is not None:
            self._read = read
        if (written := number(chunk, "generation_token_count")) is not None:
            self._written = written
        metrics = chunk.get("amazon-bedrock-invocationMetrics")
        if isinstance(metrics, dict):
            self.count(number(metrics, "inputTokenCount"), number(metrics, "outputTokenCount"))

    def count(self, read: int | None, written: int | None) -> None:
        self._read = self._read if read is None else read
        self._written = self._written if written is None else written

    def end(self) -> Iterator[Event]:
        if self._stop is None and not self.text.stopped and not self._filtered:
            raise cut_off(self._backend)
        yield from self.text.end()
        reason: FinishReason = "length" if self._stop == "length" and not self.text.stopped else "stop"
        reason = "content_filter" if self._filtered else reason
        yield Finish(reason=reason, usage=Usage(input_tokens=self._read, output_tokens=self._written))


class InvokeReader(WholeReader):
    """The answer of InvokeModel."""

    def __init__(self, backend: str, stops: tuple[str, ...]) -> None:
        super().__init__(backend)
        self._generation = _Generation(backend, stops)

    def read(self, body: bytes) -> list[Event]:
        """All of it as if it had come at once."""
        headers = self.head.headers if self.head else {}
        counts = [headers.get(f"x-amzn-bedrock-{kind}-token-count", "") for kind in ("input", "output")]
        self._generation.count(*(int(count) if count.isdecimal() else None for count in counts))
        return [*self._generation.take(parsed(body, self.backend)), *self._generation.end()]


class InvokeStreamReader(Reader):
    """The frames of InvokeModelWithResponseStream: each holds a chunk of JSON in base64."""

    def __init__(self, backend: str, stops: tuple[str, ...], judge: Judge) -> None:
        self._backend = backend
        self._judge = judge
        self._frames = FrameDecoder(backend)
        self._generation = _Generation(backend, stops)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events of the frames that are whole now."""
        for frame in self._frames.feed(data):
            if frame.kind != "event":
                raise self._judge(failures.of_frame(frame))
            if frame.name == "chunk":
                chunk = parsed(_decoded(parsed(frame.payload, self._backend).get("bytes")), self._backend)
                yield from self._generation.take(chunk)
                ended = "amazon-bedrock-invocationMetrics" in chunk
                self.done = self.done or ended or self._generation.text.stopped

    def end(self) -> Iterator[Event]:
        """The ``Finish``. Raises StreamInterruptedError where no chunk said that it was the last."""
        if not self._generation.text.stopped:
            self._frames.end()
        yield from self._generation.end()


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except binascii.Error:
        return b""
