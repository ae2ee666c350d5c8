"""A small Bedrock: repeats what it is told, in AWS' formats, and holds requests to AWS' own description of them."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Iterator
from typing import Any

from .fake_server import Fake, Handler, Seen
from .wire_format import Refused, check_shape, event, label

SCOUT = "us.meta.llama4-scout-17b-instruct-v1:0"
TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-english-v3"
KNOWN = re.compile(r"(us\.)?(meta\.llama|anthropic\.|amazon\.|cohere\.).*|arn:aws:.*")
OPERATIONS = {
    "converse": "Converse",
    "converse-stream": "ConverseStream",
    "invoke": "InvokeModel",
    "invoke-with-response-stream": "InvokeModelWithResponseStream",
    "count-tokens": "CountTokens",
}


def tokens(text: str) -> list[str]:
    """A word with what stands before it is a token."""
    return re.findall(r"\s*\S+|\s+$", text)


class FakeBedrock(Fake):
    """Its models have a context of ``context`` tokens."""

    service = "bedrock"

    def __init__(self) -> None:
        super().__init__()
        self.context = 2048
        self.counts = True
        self.stop_sequences = True
        self.piece = 0
        """Bytes of each chunk of a stream; 0 sends each frame as one."""

    def answer(self, handler: Handler, seen: Seen) -> None:
        model, operation = label(seen.path, 2), seen.operation
        if not KNOWN.fullmatch(model):
            raise Refused(400, "ValidationException", "The provided model identifier is invalid.")
        if model.startswith(("meta.llama4", "meta.llama3-3", "cohere.embed-v4")) and operation != "count-tokens":
            raise Refused(
                400,
                "ValidationException",
                f"Invocation of model ID {model} with on-demand throughput isn\u2019t supported. Retry your request "
                "with the ID or ARN of an inference profile that contains this model.",
            )
        body = seen.json
        shape = {"modelId": model, "body": seen.body} if operation.startswith("invoke") else {"modelId": model, **body}
        check_shape("bedrock-runtime", OPERATIONS[operation], shape)
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
            raise Refused(400, "ValidationException", "This model doesn't support tool use in streaming mode.")
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
        pieces, stop, read = self._continue(body)
        whole = {
            "generation": "".join(pieces),
            "prompt_token_count": read,
            "generation_token_count": len(pieces),
            "stop_reason": stop,
        }
        handler.reply(json.dumps(whole).encode())

    def invoke_with_response_stream(self, handler: Handler, body: dict[str, Any], model: str) -> None:
        pieces, stop, read = self._continue(body)
        chunks: list[dict[str, Any]] = [
            {"generation": piece, "prompt_token_count": read if n == 0 else None, "generation_token_count": n + 1,
             "stop_reason": None}
            for n, piece in enumerate(pieces)
        ]  # fmt: skip
        last = {
            "generation": "",
            "prompt_token_count": None,
            "generation_token_count": len(pieces),
            "stop_reason": stop,
        }
        metrics = {"inputTokenCount": read, "outputTokenCount": len(pieces), "invocationLatency": 9}
        chunks.append({**last, "amazon-bedrock-invocationMetrics": metrics})
        self._send(handler, [chunk_frame(chunk) for chunk in chunks])

    def count_tokens(self, handler: Handler, body: dict[str, Any], model: str) -> None:
        if not self.counts or model.startswith("us."):
            raise Refused(400, "ValidationException", "The provided model doesn't support counting tokens.")
        if "invokeModel" in body["input"]:
            inner = json.loads(base64.b64decode(body["input"]["invokeModel"]["body"]))
            count = len(tokens(inner["prompt"]))
        else:
            count = _read(body["input"]["converse"])
        handler.reply(json.dumps({"inputTokens": count}).encode())

    def _answer(self, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str, dict[str, int]]:
        """What is said, why it ends, and what was counted."""
        settings = body.get("inferenceConfig", {})
        read = _read(body)
        self._fits(read, settings.get("maxTokens"))
        if "stopSequences" in settings and not self.stop_sequences:
            message = "This model doesn't support the stopSequences field. Remove stopSequences and try again."
            raise Refused(400, "ValidationException", message)
        last = body["messages"][-1]["content"]
        if "toolConfig" in body and not any("toolResult" in block for block in last):
            spec = body["toolConfig"]["tools"][0]["toolSpec"]
            use = {"toolUseId": "tooluse_1", "name": spec["name"], "input": {"city": "Lima"}}
            content: list[dict[str, Any]] = [{"text": "Let me look."}, {"toolUse": use}]
            return content, "tool_use", _usage(read, 9)
        results = [part["text"] for block in last for part in block.get("toolResult", {}).get("content", ())]
        words = tokens(" ".join([*(block.get("text", "") for block in last), *results]).strip())
        stop = "end_turn"
        text = "".join(words)
        for sequence in settings.get("stopSequences", ()):
            if sequence in text:
                text, stop = text[: text.index(sequence)], "stop_sequence"
        said = tokens(text)
        if "maxTokens" in settings and len(said) > settings["maxTokens"]:
            said, stop = said[: settings["maxTokens"]], "max_tokens"
        return [{"text": "".join(said)}], stop, _usage(read, len(said))

    def _continue(self, body: dict[str, Any]) -> tuple[list[str], str, int]:
        if unknown := set(body) - {"prompt", "temperature", "top_p", "max_gen_len", "images"}:
            raise Refused(400, "ValidationException", f"extraneous key [{unknown.pop()}] is not permitted")
        words = tokens(body["prompt"])
        limit = body.get("max_gen_len", 512)
        self._fits(len(words), min(limit, 8))
        return words[:limit], "length" if len(words) > limit else "stop", len(words)

    def _fits(self, read: int, wanted: int | None) -> None:
        if read > 3 * self.context:
            raise Refused(400, "ValidationException", "Input is too long for requested model.")
        if read + (wanted or 0) > self.context:
            message = (
                f"This model's maximum context length is {self.context} tokens. Please reduce the length of the prompt"
            )
            raise Refused(400, "ValidationException", message)

    def _send(self, handler: Handler, frames: list[bytes]) -> None:
        if not self.piece:
            handler.stream(frames)
            return
        whole = b"".join(frames)
        handler.stream(whole[at : at + self.piece] for at in range(0, len(whole), self.piece))


def converse_frames(content: list[dict[str, Any]], stop: str, usage: dict[str, int]) -> list[bytes]:
    """As Bedrock streams an answer, padding included."""
    frames = [event("messageStart", {"p": "abcd", "role": "assistant"})]
    for index, block in enumerate(content):
        frames += _block_frames(index, block)
    frames.append(event("messageStop", {"p": "abcdefgh", "stopReason": stop}))
    frames.append(event("metadata", {"metrics": {"latencyMs": 7}, "p": "ab", "usage": usage}))
    return frames


def _block_frames(index: int, block: dict[str, Any]) -> Iterator[bytes]:
    at = {"contentBlockIndex": index}
    if "text" in block:
        for piece in tokens(block["text"]):
            yield event("contentBlockDelta", {**at, "delta": {"text": piece}, "p": "abcdefghijkl"})
    else:
        use = block["toolUse"]
        start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
        yield event("contentBlockStart", {**at, "p": "abc", "start": start})
        written = json.dumps(use["input"]) if use["input"] else ""
        for piece in filter(None, (written[:5], written[5:])):
            yield event("contentBlockDelta", {**at, "delta": {"toolUse": {"input": piece}}, "p": "ab"})
    yield event("contentBlockStop", {**at, "p": "abcdefghijklmnopqrstuvwxyz"})


def chunk_frame(chunk: dict[str, Any]) -> bytes:
    """A chunk of InvokeModelWithResponseStream."""
    inner = base64.b64encode(json.dumps(chunk).encode()).decode()
    return event("chunk", {"bytes": inner, "p": "abcdefghijklmnopqrstuvwxyz0123456789"})


def _read(body: dict[str, Any]) -> int:
    texts = [block["text"] for block in body.get("system", ())]
    texts += [block.get("text", "") for message in body["messages"] for block in message["content"]]
    return 1 + sum(len(tokens(text)) for text in texts)


def _usage(read: int, written: int) -> dict[str, int]:
    return {"inputTokens": read, "outputTokens": written, "totalTokens": read + written}


def _titan(body: dict[str, Any]) -> dict[str, Any]:
    text = body["inputText"]
    vector = _vector(text, body.get("dimensions", 16))
    length = math.hypot(*vector) if body.get("normalize", False) else 1.0
    return {"embedding": [value / length for value in vector], "inputTextTokenCount": len(tokens(text))}


def _vector(text: str, size: int) -> list[float]:
    return [zlib.crc32(f"{n} {text}".encode()) / 2**31 - 1 for n in range(size)]
