"""Bedrock and SageMaker in the formats of LocalStack, an independent implementation of AWS' servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from localstack.aws.api import CommonServiceException
from localstack.aws.protocol.parser import create_parser
from localstack.aws.protocol.serializer import create_serializer
from localstack.aws.spec import load_service
from localstack.http import Request

from .fake_server import STREAM, FakeServer, Handler, RecordedRequest

USAGE = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}


class LocalStack(FakeServer):
    """A server with a few fixed answers in LocalStack's formats; it checks signatures as the fakes do."""

    def __init__(self, service: str, signing: str) -> None:
        super().__init__()
        self.service = signing  # type: ignore[misc]  # one class for both services
        self._model = load_service(service)
        self._parser = create_parser(self._model)
        self._serializer = create_serializer(self._model)
        self.parsed: list[tuple[str, Any]] = []

    def answer(self, handler: Handler, request: RecordedRequest) -> None:
        request = Request("POST", request.path, body=request.body, headers=request.headers, raw_path=request.path)
        operation, parameters = self._parser.parse(request)
        self.parsed.append((operation.name, parameters))
        try:
            answer = self._answer(operation.name, parameters)
        except CommonServiceException as error:
            reply = self._serializer.serialize_error_to_response(error, operation, request.headers, "rid-1")
            handler.reply(reply.data, reply.status_code, _headers(reply))
            return
        reply = self._serializer.serialize_to_response(answer, operation, request.headers, "rid-1")
        if operation.has_event_stream_output:  # whose type LocalStack leaves to the web server
            handler.stream(_cut(reply.response), headers={**_headers(reply), "Content-Type": STREAM})
        else:
            handler.reply(reply.data, reply.status_code, _headers(reply))

    def _answer(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if operation == "Converse":
            use = {"toolUseId": "t1", "name": "weather", "input": {"city": "Lima"}}
            content = (
                [{"text": "Let me look."}, {"toolUse": use}] if "toolConfig" in parameters else [{"text": "whole"}]
            )
            reason = "tool_use" if "toolConfig" in parameters else "end_turn"
            output = {"message": {"role": "assistant", "content": content}}
            return {"output": output, "stopReason": reason, "usage": USAGE, "metrics": {"latencyMs": 1}}
        if operation == "ConverseStream":
            text = parameters["messages"][-1]["content"][0]["text"]
            if text == "too long":
                raise CommonServiceException(
                    "ValidationException", "Input is too long for requested model.", status_code=400, sender_fault=True
                )
            return {"stream": _events(text)}
        if operation == "CountTokens":
            return {"inputTokens": 42}
        if operation == "InvokeModel":
            body = {"embedding": [3.0, 4.0], "inputTextTokenCount": 2}
            return {"body": json.dumps(body).encode(), "contentType": "application/json"}
        if operation == "InvokeModelWithResponseStream":
            return {"body": _chunks(json.load(parameters["body"])["prompt"]), "contentType": "application/json"}
        lines = b'{"token":{"id":1,"text":"Once"}}\n{"token":{"id":2,"text":" upon"},"generated_text":"Once upon",'
        lines += b'"details":{"finish_reason":"eos_token","generated_tokens":2}}\n'
        return {"Body": iter([{"PayloadPart": {"Bytes": lines[:20]}}, {"PayloadPart": {"Bytes": lines[20:]}}])}


def _events(text: str) -> Iterator[dict[str, Any]]:
    yield {"messageStart": {"role": "assistant"}}
    for word in text.split():
        yield {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": f"{word} "}}}
    yield {"contentBlockStop": {"contentBlockIndex": 0}}
    yield {"messageStop": {"stopReason": "end_turn"}}
    yield {"metadata": {"usage": USAGE, "metrics": {"latencyMs": 1}}}


def _chunks(prompt: str) -> Iterator[dict[str, Any]]:
    for word in prompt.split():
        yield {"chunk": {"bytes": json.dumps({"generation": f"{word} ", "stop_reason": None}).encode()}}
    counts = {"inputTokenCount": 3, "outputTokenCount": 2}
    last = {"generation": "", "stop_reason": "stop", "amazon-bedrock-invocationMetrics": counts}
    yield {"chunk": {"bytes": json.dumps(last).encode()}}


def _cut(frames: Any) -> Iterator[bytes]:
    """Frames in pieces of five bytes."""
    whole = b"".join(frames)
    yield from (whole[position : position + 5] for position in range(0, len(whole), 5))


def _headers(reply: Any) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
