"""A fake Bedrock: its answer repeats the prompt, and it validates requests by AWS' service models."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Iterator
from typing import Any

from .fake_server import FakeServer, Handler, RecordedRequest
from .wire_format import RefusedError, check_shape, event, label

SCOUT = "us.meta.llama4-scout-17b-instruct-v1:0"
TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-english-v3"
KNOWN_MODELS = re.compile(r"(us\.)?(meta\.llama|anthropic\.|amazon\.|cohere\.).*|arn:aws:.*")
OPERATIONS = {
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream",
    "count-tokens": "CountTokens",
}


def tokens(text: str) -> list[str]:
    """The tokens of a text: words with the blanks before them."""
    return re.findall(r"\s*\S+|\s+$", text)


class FakeBedrock(FakeServer):
    """Bedrock with models whose context is ``context`` tokens."""

    service = "bedrock"

    def __init__(self) -> None:
        super().__init__()
        self.context = 2048
        self.counts = True
        self.stop_sequences = True
        #: Bytes of each chunk of a stream; 0 sends each frame as one.
        self.piece_bytes = 0

    def answer(self, handler: Handler, request: RecordedRequest) -> None:
        model, operation = label(request.path, 2), request.operation
        if not KNOWN_MODELS.fullmatch(model):
            raise RefusedError(400, "ValidationException", "The provided model identifier is invalid.")
        if model.startswith(("meta.llama4", "meta.llama3-3", "cohere.embed-v4")) and operation != "count-tokens":
            raise RefusedError(
                400,
                "ValidationException",
                f"Invocation of model ID {model} with on-demand throughput isn\u2019t supported. Retry your request "
                "with the ID or ARN of an inference profile that contains this model.",
            )
        body = request.json
        parameters = (
            {"modelId": model, "body": request.body} if operation.startswith("invoke") else {"modelId": model, **body}
        )
        check_shape("bedrock-runtime", OPERATIONS[operation], parameters)
        getattr(self, operation.replace("-", "_"))(handler, body, model)

    def converse(self, handler: Handler, body: dict[str, Any], model: str) -> None:
        content, stop, usage = self._answer(body)
        answer = {
            "metrics": {"latencyMs": 7},
            "output": {"message": {"content": content, "role": "assistant"}},
            "stopReason": stop,
            "usage": usage,
        }
        handler.reply(json.dumps(answer).encode(), headers={"x-amzn-RequestId": "fake-1"})

    def converse_stream(self, handler: Handler, body: dict[str, Any], model: str) -> None:
        if "toolConfig" in body and "llama" in model:
            raise RefusedError(400, "ValidationException", "This model doesn't support tool use in streaming mode.")
        content, stop, usage = self._answer(body)
        self._send(handler, converse_frames(content, stop, usage))

    def invoke(self, handler: Handler, body: dict[str, Any], model: str) -> None:
        if "titan" in model:
            handler.reply(json.dumps(_titan(body)).encode())
            return
        if "cohere" in model:
            count = sum(len(tokens(text)) for text in body["texts"])
            rows = [_vector(text, 8) for text in body["texts"]]
            answer = {"id": "1", "response_type": "embeddings_by_type", "embeddings": {"float": rows}}
            handler.reply(json.dumps(answer).encode(), headers={"X-Amzn-Bedrock-Input-Token-Count": str(count)})
            return
        pieces, stop, input_tokens = self._continue(body)
        body = {
            "generation": "".join(pieces),
            "prompt_token_count": input_tokens,
            "generation_token_count": len(pieces),
            "stop_reason": stop,
        }
        handler.reply(json.dumps(body).encode())

    def invoke_with_response_stream(self, handler: Handler, body: dict[str, Any], model: str) -> None:
        pieces, stop, input_tokens = self._continue(body)
        chunks: list[dict[str, Any]] = [
            {
                "generation": piece,
                "prompt_token_count": None if number > 1 else input_tokens,
                "generation_token_count": number,
                "stop_reason": None,
            }
            for number, piece in enumerate(pieces, 1)
        ]
        last = {
            "generation": "",
            "prompt_token_count": None,
            "generation_token_count": len(pieces),
            "stop_reason": stop,
        }
        metrics = {"inputTokenCount": input_tokens, "outputTokenCount": len(pieces), "invocationLatency": 9}
        chunks.append({**last, "amazon-bedrock-invocationMetrics": metrics})
        self._send(handler, [chunk_frame(chunk) for chunk in chunks])

    def count_tokens(self, handler: Handler, body: dict[str, Any], model: str) -> None:
        if not self.counts or model.startswith("us."):
            raise RefusedError(400, "ValidationException", "The provided model doesn't support counting tokens.")
        if "invokeModel" in body["input"]:
            inner = json.loads(base64.b64decode(body["input"]["invokeModel"]["body"]))
            count = len(tokens(inner["prompt"]))
        else:
            count = _input_tokens(body["input"]["converse"])
        handler.reply(json.dumps({"inputTokens": count}).encode())

    def _answer(self, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str, dict[str, int]]:
        """The content, the stop reason and the usage."""
        settings = body.get("inferenceConfig", {})
        input_tokens = _input_tokens(body)
        self._check_length(input_tokens, settings.get("maxTokens"))
        if "stopSequences" in settings and not self.stop_sequences:
            message = "This model doesn't support the stopSequences field. Remove stopSequences and try again."
            raise RefusedError(400, "ValidationException", message)
        last = body["messages"][-1]["content"]
        if "toolConfig" in body and not any("toolResult" in block for block in last):
            spec = body["toolConfig"]["tools"][0]["toolSpec"]
            use = {"toolUseId": "tooluse_1", "name": spec["name"], "input": {"city": "Lima"}}
            content: list[dict[str, Any]] = [{"text": "Let me look."}, {"toolUse": use}]
            return content, "tool_use", _usage(input_tokens, 9)
        results = [part["text"] for block in last for part in block.get("toolResult", {}).get("content", ())]
        words = tokens(" ".join([*(block.get("text", "") for block in last), *results]).strip())
        stop = "end_turn"
        text = "".join(words)
        for sequence in settings.get("stopSequences", ()):
            if sequence in text:
                text, stop = text[: text.index(sequence)], "stop_sequence"
        answer_words = tokens(text)
        if "maxTokens" in settings and len(answer_words) > settings["maxTokens"]:
            answer_words, stop = answer_words[: settings["maxTokens"]], "max_tokens"
        return [{"text": "".join(answer_words)}], stop, _usage(input_tokens, len(answer_words))

    def _continue(self, body: dict[str, Any]) -> tuple[list[str], str, int]:
        if unknown := set(body) - {"prompt", "temperature", "top_p", "max_gen_len", "images"}:
            raise RefusedError(400, "ValidationException", f"extraneous key [{unknown.pop()}] is not permitted")
        words = tokens(body["prompt"])
        limit = body.get("max_gen_len", 512)
        self._check_length(len(words), min(limit, 8))
        return words[:limit], "length" if len(words) > limit else "stop", len(words)

    def _check_length(self, input_tokens: int, max_tokens: int | None) -> None:
        if input_tokens > 3 * self.context:
            raise RefusedError(400, "ValidationException", "Input is too long for requested model.")
        if input_tokens + (max_tokens or 0) > self.context:
            message = (
                f"This model's maximum context length is {self.context} tokens. Please reduce the length of the prompt"
            )
            raise RefusedError(400, "ValidationException", message)

    def _send(self, handler: Handler, frames: list[bytes]) -> None:
        if not self.piece_bytes:
            handler.stream(frames)
            return
        body = b"".join(frames)
        handler.stream(
            body[position : position + self.piece_bytes] for position in range(0, len(body), self.piece_bytes)
        )


def converse_frames(content: list[dict[str, Any]], stop: str, usage: dict[str, int]) -> list[bytes]:
    """The frames of an answer, with Bedrock's padding."""
    frames = [event("messageStart", {"p": "abcd", "role": "assistant"})]
    for index, block in enumerate(content):
        frames += _block_frames(index, block)
    frames.append(event("messageStop", {"p": "abcdefgh", "stopReason": stop}))
    frames.append(event("metadata", {"metrics": {"latencyMs": 7}, "p": "ab", "usage": usage}))
    return frames


def _block_frames(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    position = {"contentBlockIndex": index}
    if "text" in block:
        for piece in tokens(block["text"]):
            yield event("contentBlockDelta", {**position, "delta": {"text": piece}, "p": "abcdefghijkl"})
    else:
        use = block["toolUse"]
        start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
        yield event("contentBlockStart", {**position, "p": "abc", "start": start})
        output_tokens = json.dumps(use["input"]) if use["input"] else ""
        for piece in filter(None, (output_tokens[:5], output_tokens[5:])):
            yield event("contentBlockDelta", {**position, "delta": {"toolUse": {"input": piece}}, "p": "ab"})
    yield event("contentBlockStop", {**position, "p": "abcdefghijklmnopqrstuvwxyz"})


def chunk_frame(chunk: dict[str, Any]) -> bytes:
    """A chunk of InvokeModelWithResponseStream."""
    inner = base64.b64encode(json.dumps(chunk).encode()).decode()
    return event("chunk", {"bytes": inner, "p": "abcdefghijklmnopqrstuvwxyz0123456789"})


def _input_tokens(body: dict[str, Any]) -> int:
    texts = [block["text"] for block in body.get("system", ())]
    texts += [block.get("text", "") for message in body["messages"] for block in message["content"]]
    return 1 + sum(len(tokens(text)) for text in texts)


def _usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    return {"inputTokens": input_tokens, "outputTokens": output_tokens, "totalTokens": input_tokens + output_tokens}


def _titan(body: dict[str, Any]) -> dict[str, Any]:
    text = body["inputText"]
    vector = _vector(text, body.get("dimensions", 16))
    length = math.hypot(*vector) if body.get("normalize", False) else 1.0
    return {"embedding": [value / length for value in vector], "inputTextTokenCount": len(tokens(text))}


def _vector(text: str, size: int) -> list[float]:
    return [zlib.crc32(f"{n} {text}".encode()) / 2**31 - 1 for n in range(size)]
