"""A fake SageMaker endpoint: its answer repeats the prompt, in the dialects of its containers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .fake_bedrock import tokens
from .fake_server import FakeServer, Handler, RecordedRequest
from .wire_format import RefusedError, check_shape, frame, label


class FakeSageMaker(FakeServer):
    """An endpoint with the name ``llama``."""

    service = "sagemaker"

    def __init__(self, *, dialect: str = "lmi", events: bool = False) -> None:
        super().__init__()
        self.dialect = dialect
        #: Whether its stream has server-sent events instead of lines.
        self.events = events
        self.context = 2048
        #: Bytes of each ``PayloadPart``: parts are cut without regard to lines.
        self.part_bytes = 11

    def answer(self, handler: Handler, request: RecordedRequest) -> None:
        name = label(request.path, 2)
        if name != "llama" or not request.path.endswith("/invocations-response-stream"):
            raise RefusedError(400, "ValidationError", f"Endpoint {name} of account 123456789012 not found.")
        check_shape(
            "sagemaker-runtime", "InvokeEndpointWithResponseStream", {"EndpointName": name, "Body": request.body}
        )
        body = request.json
        try:
            values = list(self._chat(body) if "messages" in body else self._native(body))
        except ContainerError as error:
            self.fail(400, json.dumps({"error": error.message, "code": 400}))(handler, request)
            return
        end = b"data: [DONE]\n\n" if self.events else b""
        self.send(handler, b"".join(self._line(value) for value in values) + end)

    def send(self, handler: Handler, stream: bytes) -> None:
        """Send a container's stream in parts."""
        handler.stream(
            part(stream[position : position + self.part_bytes]) for position in range(0, len(stream), self.part_bytes)
        )

    def fail(self, status: int, message: str) -> Any:
        """SageMaker's answer to a container's error."""
        body = {"Message": f"Received client error ({status}) from primary", "OriginalStatusCode": status,
                "OriginalMessage": message, "LogStreamArn": "arn:aws:logs:x"}  # fmt: skip
        return lambda handler, request: handler.reply(
            json.dumps(body).encode(), 424, {"x-amzn-ErrorType": "ModelError", "x-amzn-RequestId": "fake-2"}
        )

    def _line(self, value: object) -> bytes:
        text = json.dumps(value, ensure_ascii=False).encode()
        return b"data: " + text + b"\n\n" if self.events else text + b"\n"

    def _chat(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if self.dialect == "tgi" and {"top_k", "repetition_penalty"} & set(body):
            raise RefusedError(400, "ValidationError", "unknown field")
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
        input_tokens = sum(len(tokens(str(message["content"]))) for message in body["messages"])
        self._check_length(input_tokens, body.get("max_tokens"))
        if body.get("tools") and body["messages"][-1]["role"] == "user":
            name = body["tools"][0]["function"]["name"]
            yield _choice({"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": name, "arguments": ""}}]})
            yield _choice({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": '}}]})
            yield _choice({"tool_calls": [{"index": 0, "function": {"arguments": '"Lima"}'}}]})
            yield _choice({}, "tool_calls")
            return
        words, reason = self._words(text, body.get("max_tokens"), body.get("stop", ()))
        yield _choice({"role": "assistant", "content": ""})
        for word in words:
            yield _choice({"content": word})
        yield _choice({}, reason)
        if body.get("stream_options", {}).get("include_usage"):
            yield {"choices": [], "usage": {"prompt_tokens": input_tokens, "completion_tokens": len(words)}}

    def _native(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        parameters = body["parameters"]
        if parameters.get("temperature") == 0 or (self.dialect == "tgi" and parameters.get("top_p", 0.5) >= 1):
            self._fail("`temperature` must be strictly positive")
        input_tokens = len(tokens(body["inputs"]))
        self._check_length(input_tokens, parameters.get("max_new_tokens"))
        stops = parameters.get("stop" if self.dialect == "tgi" else "stop_sequences", ())
        words, reason = self._words(body["inputs"], parameters.get("max_new_tokens"), stops)
        for number, word in enumerate(words[:-1]):
            yield {"token": {"id": number, "text": word, "log_prob": -0.5}}
        details = {"finish_reason": "eos_token" if reason == "stop" else reason, "generated_tokens": len(words)}
        last = {"token": {"id": 9, "text": words[-1] if words else "", "log_prob": -0.5}}
        yield {**last, "generated_text": "".join(words), "details": {**details, "input_length": input_tokens}}

    def _words(self, text: str, limit: int | None, stops: Any) -> tuple[list[str], str]:
        for stop in stops:
            text = text.partition(stop)[0]
        words = tokens(text.strip())
        return (words[:limit], "length") if limit is not None and len(words) > limit else (words, "stop")

    def _check_length(self, input_tokens: int, max_tokens: int | None) -> None:
        if input_tokens + (max_tokens or 0) > self.context:
            self._fail(
                f"This model's maximum context length is {self.context} tokens. However, you requested "
                f"{input_tokens + (max_tokens or 0)} tokens."
            )

    def _fail(self, message: str) -> None:
        raise ContainerError(message)


class ContainerError(RefusedError):
    """An error of a container."""

    def __init__(self, message: str) -> None:
        super().__init__(424, "ModelError", message)


def part(data: bytes) -> bytes:
    """A frame with raw bytes."""
    headers = {":event-type": "PayloadPart", ":content-type": "application/octet-stream", ":message-type": "event"}
    return frame(headers, data)


def _choice(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "chat-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
    }
