"""A fake server of OpenAI's protocol, in the dialect of a profile. Its answer is the prompt.

One word with the space before it is one token.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from typing import Any

__all__ = ["CONTEXT", "KEY", "MODEL", "Fake", "serving"]

CONTEXT = 512
KEY = "sk-secret-of-the-test"
MODEL = "acme/llama-4-scout-mine"
PAUSE = 0.002

Json = dict[str, Any]

SAMPLES = {"[0-9]{4}-[0-9]{2}-[0-9]{2}": "2026-11-21"}


class RefusedError(Exception):
    """A status and a body to answer with."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(status)
        self.status, self.body = status, body


@dataclass
class Fake:
    """The requests that the server got, and how it behaves."""

    url: str = ""
    #: ``vllm``, ``together``, ``llamacpp`` or ``plain``.
    dialect: str = "vllm"
    calls: list[tuple[str, Json, dict[str, str]]] = field(default_factory=list)
    #: For each stream whether the client read it to its end.
    finished: list[bool] = field(default_factory=list)
    #: Lines to send instead of an answer.
    script: list[str] | None = None
    streams: bool = True
    #: Paths that the server does not have.
    missing: tuple[str, ...] = ()
    #: The answer to every request.
    refusal: RefusedError | None = None

    @property
    def last(self) -> Json:
        """The body of the last request."""
        return self.calls[-1][1]

    def answer(self, path: str, body: Json) -> Json:
        """The JSON of an answer that is not streamed."""
        if path == "/v1/models":
            models = [{"id": MODEL, "object": "model", "max_model_len": CONTEXT, "context_length": CONTEXT}]
            return {"object": "list", "data": models}
        if path in self.missing:
            raise RefusedError(404, {"detail": "Not Found"})
        if not body and path.startswith("/v1/"):
            raise RefusedError(405, {"detail": "Method Not Allowed"})
        if path == "/props":
            return {"default_generation_settings": {"n_ctx": CONTEXT}, "modalities": {"vision": False}}
        if path == "/tokenize":
            text = body.get("content") or body.get("prompt") or _prompt_text(body)
            return {"count": len(_split(text)), "tokens": list(range(len(_split(text)))), "max_model_len": CONTEXT}
        if path.endswith("/input_tokens"):
            return {"input_tokens": len(_split(_prompt_text(body)))}
        if path.endswith("/embeddings"):
            return self._embeddings(body)
        if path.endswith(("/chat/completions", "/completions")):
            return self._whole(body, chat="messages" in body)
        raise RefusedError(404, {"detail": "Not Found"})

    def chunks(self, body: Json) -> Iterator[str]:
        """The data lines of a stream."""
        if not self.streams:
            raise RefusedError(400, {"error": {"message": "Streaming is not supported for this model."}})
        if self.script is not None:
            yield from self.script
            return
        chat = "messages" in body
        words, calls, reason = self._reply(body)
        if chat:
            yield self._chunk(body, {"role": "assistant", "content": ""}, None, chat=chat)
        for word in words:
            yield self._chunk(
                body, {"content": word}, None, chat=chat, logprobs=self._logprobs(body, [word], chat=chat)
            )
        for index, call in enumerate(calls):
            name = {"name": call["name"], "arguments": ""}
            first = {"index": index, "id": f"call_{index}abc", "type": "function", "function": name}
            yield self._chunk(body, {"tool_calls": [first]}, None, chat=chat)
            for start in range(0, len(call["arguments"]), 5):
                piece = {"index": index, "function": {"arguments": call["arguments"][start : start + 5]}}
                yield self._chunk(body, {"tool_calls": [piece]}, None, chat=chat)
        usage = self._usage(body, words)
        always_counts = self.dialect == "together"
        yield self._chunk(body, {}, reason, chat=chat, usage=usage if always_counts else None)
        if (body.get("stream_options") or {}).get("include_usage") and not always_counts:
            yield json.dumps({**self._frame(body, chat=chat, stream=True), "choices": [], "usage": usage})
        yield "[DONE]"

    def _whole(self, body: Json, *, chat: bool) -> Json:
        words, calls, reason = self._reply(body)
        text = "".join(words)
        choice: Json = {"index": 0, "finish_reason": reason, "logprobs": self._logprobs(body, words, chat=chat)}
        if chat:
            message: Json = {"role": "assistant", "content": text if not calls else None}
            if calls:
                message["tool_calls"] = [
                    {"id": f"call_{index}abc", "type": "function", "function": call} for index, call in enumerate(calls)
                ]
            choice["message"] = message
        else:
            choice["text"] = text
        return {**self._frame(body, chat=chat, stream=False), "choices": [choice], "usage": self._usage(body, words)}

    def _reply(self, body: Json) -> tuple[list[str], list[Json], str]:
        """Words, calls and finish reason."""
        text = _prompt_text(body)
        prompt_tokens = len(_split(text))
        limit = body.get("max_tokens")
        if prompt_tokens + (limit or 1) > CONTEXT:
            raise RefusedError(400, self._too_long(prompt_tokens + (limit or 1)))
        if body.get("tools") and body.get("tool_choice") != "none":
            return [], [_call(body)], "tool_calls"
        words = _split(_shape(body) or text)
        words = words[: limit or CONTEXT - prompt_tokens]
        cut = limit is not None and len(words) == limit and len(_split(_shape(body) or text)) > limit
        answer = "".join(words)
        for stop in body.get("stop") or ():
            if stop in answer:
                answer, cut = answer[: answer.index(stop)], False
        done = "eos" if self.dialect == "together" else "stop"
        return _split(answer), [], "length" if cut else done

    def _too_long(self, requested: int) -> Json:
        if self.dialect == "llamacpp":
            words = f"the request exceeds the available context size ({CONTEXT} tokens)"
            kind = "exceed_context_size_error"
            return {
                "error": {"code": 400, "message": words, "type": kind, "n_ctx": CONTEXT, "n_prompt_tokens": requested}
            }
        words = (
            f"This model's maximum context length is {CONTEXT} tokens. However, your request has {requested} tokens."
        )
        return {"error": {"message": words, "type": "BadRequestError", "param": None, "code": 400}}

    def _logprobs(self, body: Json, words: list[str], *, chat: bool) -> Json | None:
        requested = body.get("logprobs")
        if requested in (None, False):
            return None
        if self.dialect == "together" or not chat:
            tops = [{word: -0.25, "other": -1.5} for word in words]
            return {"tokens": words, "token_logprobs": [-0.25] * len(words), "top_logprobs": tops}
        return {
            "content": [
                {
                    "token": word,
                    "logprob": -0.25,
                    "bytes": list(word.encode()),
                    "top_logprobs": [
                        {"token": token, "logprob": value, "bytes": list(token.encode())}
                        for token, value in ((word, -0.25), ("other", -1.5))
                    ][: body["top_logprobs"]],
                }
                for word in words
            ],
            "refusal": None,
        }

    def _embeddings(self, body: Json) -> Json:
        data = []
        for index, text in enumerate(body["input"]):
            vector: Any = [float(len(text)), float(text.count("e")) + 0.5, float(sum(text.encode()) % 97)]
            if body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack("<3f", *vector)).decode()
            data.append({"object": "embedding", "index": index, "embedding": vector})
        usage = {"prompt_tokens": sum(len(_split(text)) for text in body["input"]), "total_tokens": 9}
        return {"object": "list", "model": body["model"], "data": data[::-1], "usage": usage}

    def _frame(self, body: Json, *, chat: bool, stream: bool) -> Json:
        kind = ("chat.completion.chunk" if stream else "chat.completion") if chat else "text_completion"
        return {"id": "cmpl-1", "object": kind, "created": 1_700_000_000, "model": body["model"]}

    def _chunk(
        self,
        body: Json,
        delta: Json,
        reason: str | None,
        *,
        chat: bool,
        logprobs: Json | None = None,
        usage: Json | None = None,
    ) -> str:
        fields = {"delta": delta} if chat else {"text": delta.get("content", "")}
        choice = {"index": 0, **fields, "logprobs": logprobs, "finish_reason": reason}
        complete = {**self._frame(body, chat=chat, stream=True), "choices": [choice]}
        return json.dumps(complete if usage is None else {**complete, "usage": usage}, ensure_ascii=False)

    def _usage(self, body: Json, words: list[str]) -> Json:
        prompt_tokens = len(_split(_prompt_text(body)))
        return {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": len(words),
            "total_tokens": prompt_tokens + len(words),
            "prompt_tokens_details": {"cached_tokens": 1},
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, fake: Fake) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fake = fake


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle({})

    def do_POST(self) -> None:
        self._handle(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _handle(self, body: Json) -> None:
        fake = self.server.fake
        headers = {name.lower(): value for name, value in self.headers.items()}
        fake.calls.append((self.path, body, headers))
        try:
            if f"Bearer {KEY}" != headers.get("authorization") and headers.get("api-key") != KEY:
                raise RefusedError(401, {"error": "Unauthorized"})
            if (name := body.get("model", MODEL)) != MODEL:
                raise RefusedError(404, {"error": {"message": f"The model `{name}` does not exist.", "code": 404}})
            if fake.refusal is not None:
                raise fake.refusal
            if not body.get("stream"):
                return self._send(200, fake.answer(self.path.partition("?")[0], body))
            lines = fake.chunks(body)
            first = next(lines)
        except RefusedError as refusal:
            return self._send(refusal.status, refusal.body)
        return self._stream(chain([first], lines), fake)

    def _send(self, status: int, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, lines: Iterator[str], fake: Fake) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        complete = False
        try:
            for line in lines:
                data = f"data: {line}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                time.sleep(PAUSE)
            self.wfile.write(b"0\r\n\r\n")
            complete = True
        except OSError:
            self.close_connection = True
        fake.finished.append(complete)


@contextmanager
def serving(dialect: str = "vllm") -> Iterator[Fake]:
    """A fake server on a free port."""
    fake = Fake(dialect=dialect)
    server = _Server(fake)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _prompt_text(body: Json) -> str:
    if "prompt" in body:
        return str(body["prompt"])
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or ())


def _split(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def _call(body: Json) -> Json:
    choice = body.get("tool_choice")
    tool_name = choice["function"]["name"] if isinstance(choice, dict) else None
    tool = next(tool["function"] for tool in body["tools"] if tool_name in (None, tool["function"]["name"]))
    return {"name": tool["name"], "arguments": json.dumps(_instance(tool["parameters"]))}


def _shape(body: Json) -> str | None:
    """An answer that keeps to the request's constraint; ``None`` where it has none."""
    structured = body.get("structured_outputs") or {}
    json_schema = (body.get("response_format") or {}).get("json_schema") or {}
    schema = structured.get("json") or body.get("json_schema") or json_schema.get("schema")
    if schema:
        return json.dumps(_instance(schema))
    if pattern := structured.get("regex"):
        return SAMPLES[pattern]
    return "(yes)" if structured.get("grammar") else None


def _instance(schema: Json) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("type") == "object":
        return {name: _instance(inner) for name, inner in schema.get("properties", {}).items()}
    return {"integer": schema.get("minimum", 3), "string": "word", "array": []}.get(schema.get("type", ""))
