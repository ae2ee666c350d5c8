"""InvokeModel with the Llama schema: continues raw prompts as they are."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import JsonValue

from llama4sdk.events import Event, Finish, FinishReason, Usage
from llama4sdk.remote.dialect import Reader
from llama4sdk.remote.json_fields import as_object, token_count
from llama4sdk.requests import Request
from llama4sdk_aws.aws_errors import ErrorFactory, event_frames
from llama4sdk_aws.converse import check_sampling
from llama4sdk_aws.converse_stream import TextUntilStop, WholeBodyReader, decode_answer, incomplete_answer
from llama4sdk_aws.frames import FrameDecoder
from llama4sdk_aws.options import BedrockOptions


def invoke_body(request: Request, max_output_tokens: int | None) -> dict[str, JsonValue]:
    """Return the body. Without ``max_tokens`` it allows ``max_output_tokens``: Bedrock's own default is 512."""
    check_sampling(request)
    sampling = request.sampling
    body: dict[str, JsonValue] = {"prompt": request.prompt}
    if (limit := sampling.max_tokens or max_output_tokens) is not None:
        body["max_gen_len"] = limit
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    return body


def invoke_headers(options: BedrockOptions, *, stream: bool = False) -> dict[str, str]:
    """Return the options that Converse has in its body."""
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
    """The state of one generation, whole or in chunks."""

    def __init__(self, backend: str, stops: tuple[str, ...]) -> None:
        self.text = TextUntilStop(stops)
        self._backend = backend
        self._stop_reason: object = None
        self._filtered = False
        self._usage = Usage()

    def read_chunk(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        if isinstance(text := chunk.get("generation"), str):
            yield from self.text.feed(text)
        self._stop_reason = chunk.get("stop_reason") or self._stop_reason
        self._filtered = self._filtered or chunk.get("amazon-bedrock-guardrailAction") == "INTERVENED"
        self.set_usage(token_count(chunk, "prompt_token_count"), token_count(chunk, "generation_token_count"))
        metrics = as_object(chunk.get("amazon-bedrock-invocationMetrics"))
        self.set_usage(token_count(metrics, "inputTokenCount"), token_count(metrics, "outputTokenCount"))

    def set_usage(self, input_tokens: int | None, output_tokens: int | None) -> None:
        """Replace the counts that are given."""
        self._usage = Usage(
            input_tokens=self._usage.input_tokens if input_tokens is None else input_tokens,
            output_tokens=self._usage.output_tokens if output_tokens is None else output_tokens,
        )

    def end(self) -> Iterator[Event]:
        if self._stop_reason is None and not self.text.stopped and not self._filtered:
            raise incomplete_answer(self._backend)
        yield from self.text.end()
        reason: FinishReason = "length" if self._stop_reason == "length" and not self.text.stopped else "stop"
        yield Finish(reason="content_filter" if self._filtered else reason, usage=self._usage)


class InvokeReader(WholeBodyReader):
    """Reads the answer of InvokeModel."""

    def __init__(self, backend: str, stops: tuple[str, ...]) -> None:
        super().__init__(backend)
        self._generation = _Generation(backend, stops)

    def read_body(self, body: bytes) -> list[Event]:
        """Return the text and the end, with the counts of the headers where the body has none."""
        headers = self.head.headers if self.head else {}
        counts = [headers.get(f"x-amzn-bedrock-{kind}-token-count", "") for kind in ("input", "output")]
        self._generation.set_usage(*(int(count) if count.isdecimal() else None for count in counts))
        return [*self._generation.read_chunk(decode_answer(body, self.backend)), *self._generation.end()]


class InvokeStreamReader(Reader):
    """Reads the frames of InvokeModelWithResponseStream: each holds a chunk of JSON in base64."""

    def __init__(self, backend: str, stops: tuple[str, ...], to_error: ErrorFactory) -> None:
        self._backend = backend
        self._to_error = to_error
        self._frames = FrameDecoder(backend)
        self._generation = _Generation(backend, stops)

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events of the frames that are complete now."""
        for frame in event_frames(self._frames.feed(data), self._to_error):
            if frame.name == "chunk":
                payload = _decode_base64(decode_answer(frame.payload, self._backend).get("bytes"))
                chunk = decode_answer(payload, self._backend)
                yield from self._generation.read_chunk(chunk)
                is_last = "amazon-bedrock-invocationMetrics" in chunk
                self.done = self.done or is_last or self._generation.text.stopped

    def end(self) -> Iterator[Event]:
        """Yield the ``Finish``. Raises StreamInterruptedError where no chunk said that it was the last."""
        if not self._generation.text.stopped:
            self._frames.end()
        yield from self._generation.end()


def _decode_base64(value: object) -> bytes:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else b""
    except binascii.Error:
        return b""
