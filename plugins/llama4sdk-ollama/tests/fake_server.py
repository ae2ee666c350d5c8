"""A fake server of Ollama's native API, after its source of August 2026, and of versions before 0.12.6.

Its answer repeats the last message. A word with the blanks before it is a token; a message has four more.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SCOUT = "llama4:scout"
EMBEDDER = "nomic-embed-text:latest"
#: No real model: it has all capabilities of Ollama.
ABLE = "able:latest"
TOO_LONG = (
    "the prompt is longer than the context length currently available to the model; shorten the prompt, adjust the "
    "context length in settings, or use a model with a longer context length"
)
#: The lines that are sent one by one; later ones are sent without a pause.
PACED_LINES = 20
TIMESTAMP = "2026-08-21T18:48:22.5Z"


def entry(name: str, family: str, size: int, parameters: str, **more: Any) -> dict[str, Any]:
    """A model as ``/api/tags`` and ``/api/ps`` list it."""
    details = {"format": "gguf", "family": family, "parameter_size": parameters, "quantization_level": "Q4_K_M"}
    listed = {"name": name, "model": name, "size": size, "digest": "f" * 64, "details": details}
    return {**listed, "modified_at": TIMESTAMP, **more}


@dataclass
class Fake:
    """The server's models and behaviour, which tests change between requests."""

    version: str = "0.32.1"
    #: Whether it ignores ``truncate`` and ``shift``, and cuts long prompts silently.
    truncates: bool = False
    #: Whether a cut prompt fills the context, as in 2024, or half of it.
    fills_context: bool = False
    #: Tokens of a word.
    tokens_per_word: float = 1.0
    tags: list[dict[str, Any]] = field(
        default_factory=lambda: [
            entry(SCOUT, "llama4", 67_436_814_528, "108.6B"),
            entry(EMBEDDER, "nomic-bert", 274_302_450, "137M"),
            entry(ABLE, "llama", 1_000, "1.0B"),
        ]
    )
    info: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            SCOUT: {
                "model_info": {"general.architecture": "llama4", "llama4.context_length": 10_485_760},
                "capabilities": ["completion", "vision", "tools"],
            },
            EMBEDDER: {
                "model_info": {"general.architecture": "nomic-bert", "nomic-bert.context_length": 2048},
                "capabilities": ["embedding"],
            },
            ABLE: {
                "model_info": {"general.architecture": "llama", "llama.context_length": 16_384},
                "capabilities": ["completion", "vision", "tools", "embedding"],
            },
        }
    )
    #: The context of each model in memory.
    loaded: dict[str, int] = field(default_factory=dict)
    #: The number of times a model was loaded.
    loads: int = 0
    #: The longest context that it gives.
    max_context: int | None = None
    key: str | None = None
    #: Lines that are sent instead of an answer.
    lines: list[bytes] | None = None
    #: Statuses and bodies of the answers to the next requests.
    refusals: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    #: Paths and bodies of the POSTs, in order.
    posts: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Fake:
        handler = type("Bound", (_Handler,), {"fake": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """The bodies of the POSTs to a path."""
        return [body for requested, body in self.posts if requested == path]

    def load(self, body: dict[str, Any]) -> int:
        """Load the model, again where its context changes, and return its context."""
        context = int(body.get("options", {}).get("num_ctx", 4096))
        context = min(context, self.max_context or context)
        if self.loaded.get(body["model"]) != context:
            self.loaded[body["model"]] = context
            self.loads += 1
        return context


class RefusedError(Exception):
    """An error with its status."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    fake: Fake
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        if self._allowed():
            running = [
                {**tag, "context_length": n, "size_vram": tag["size"], "expires_at": TIMESTAMP}
                for tag, n in self._running()
            ]
            answers: dict[str, Any] = {
                "/api/version": {"version": self.fake.version},
                "/api/tags": {"models": self.fake.tags},
                "/api/ps": {"models": running},
            }
            self._json(200 if self.path in answers else 404, answers.get(self.path, {"error": "404 page not found"}))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.fake.posts.append((self.path, body))
        if not self._allowed():
            return None
        if self.fake.refusals:
            return self._json(*self.fake.refusals.pop(0))
        try:
            answer = getattr(self, "_" + self.path.rsplit("/", 1)[-1])(body)
        except RefusedError as refusal:
            return self._json(refusal.status, {"error": str(refusal)})
        if isinstance(answer, dict):
            return self._json(200, answer)
        if body.get("stream", True):
            return self._stream(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in answer)
        return self._json(200, _joined(list(answer)))

    def _allowed(self) -> bool:
        if self.fake.key is None or self.headers.get("Authorization") == f"Bearer {self.fake.key}":
            return True
        self._json(401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect"})
        return False

    def _running(self) -> list[tuple[dict[str, Any], int]]:
        return [(tag, self.fake.loaded[tag["model"]]) for tag in self.fake.tags if tag["model"] in self.fake.loaded]

    def _show(self, body: dict[str, Any]) -> dict[str, Any]:
        self._known(body)
        return {"details": {}, "modified_at": TIMESTAMP, **self.fake.info[body["model"]]}

    def _known(self, body: dict[str, Any], ability: str | None = None) -> None:
        if body["model"] not in self.fake.info:
            raise RefusedError(404, f'model "{body["model"]}" not found, try pulling it first')
        abilities = self.fake.info[body["model"]].get("capabilities")
        if ability and abilities is not None and ability not in abilities:
            word = {"completion": self.path.rsplit("/", 1)[-1]}.get(ability, ability)
            raise RefusedError(400, f'"{body["model"]}" does not support {word}')

    def _chat(self, body: dict[str, Any]) -> Iterator[dict[str, Any]] | dict[str, Any]:
        self._known(body, "completion")
        if body.get("tools"):
            self._known(body, "tools")
        context = self.fake.load(body)
        messages = body["messages"]
        if not messages:
            return {
                "model": body["model"],
                "created_at": TIMESTAMP,
                "message": {"role": "assistant"},
                "done": True,
                "done_reason": "load",
            }
        for message in messages:
            for image in message.get("images", ()):
                base64.b64decode(image, validate=True)
            for call in message.get("tool_calls", ()):
                assert isinstance(call["function"]["arguments"], dict)
        prompt_tokens = self._read(body, sum(4 + len(_tokens(message["content"])) for message in messages), context)
        last_text = messages[-1]["content"]
        if body.get("tools") and "call" in last_text:
            return self._calls(body, prompt_tokens)
        text = (
            _fitting(body["format"])
            if body.get("format")
            else f"You said this to me: {last_text} That is all there is."
        )
        return self._lines(body, text, prompt_tokens, context)

    def _generate(self, body: dict[str, Any]) -> Iterator[dict[str, Any]] | dict[str, Any]:
        self._known(body, "completion")
        context = self.fake.load(body)
        if not body.get("prompt"):
            return {
                "model": body["model"],
                "created_at": TIMESTAMP,
                "response": "",
                "done": True,
                "done_reason": "load",
            }
        prompt_tokens = self._read(body, len(_tokens(body["prompt"])), context)
        return self._lines(body, f" goes on: {body['prompt']}", prompt_tokens, context)

    def _read(self, body: dict[str, Any], count: int, context: int) -> int:
        """The tokens of a prompt that are read: too many are cut to about half the context, or refused."""
        count = int(count * self.fake.tokens_per_word)
        if count < context:
            return count
        if self.fake.truncates or body.get("truncate", True):
            return context if self.fake.fills_context else context - max((context - 4) // 2, 1)
        raise RefusedError(400, TOO_LONG)

    def _lines(self, body: dict[str, Any], text: str, prompt_tokens: int, context: int) -> Iterator[dict[str, Any]]:
        options = body.get("options", {})
        for stop in options.get("stop", ()):
            text = text.split(stop)[0]
        limit = min(options.get("num_predict", -1) % 2**31, context - prompt_tokens)
        tokens = _tokens(text)
        for token in tokens[:limit]:
            piece: dict[str, Any] = (
                {"message": {"role": "assistant", "content": token}} if "messages" in body else {"response": token}
            )
            if body.get("logprobs"):
                top = [{"token": f"{token}{n}", "logprob": -0.5 - n} for n in range(body.get("top_logprobs", 0))]
                piece["logprobs"] = [{"token": token, "logprob": -0.25, "top_logprobs": top}]
            yield {"model": body["model"], "created_at": TIMESTAMP, **piece, "done": False}
        yield self._last(body, prompt_tokens, min(limit, len(tokens)), "length" if len(tokens) > limit else "stop")

    def _calls(self, body: dict[str, Any], prompt_tokens: int) -> Iterator[dict[str, Any]]:
        for index, tool in enumerate(body["tools"]):
            function = {
                "index": index,
                "name": tool["function"]["name"],
                "arguments": {"city": "Zürich", "days": index},
            }
            call: dict[str, Any] = {"function": function}
            if not self.fake.truncates:
                call = {"id": f"call_abcdefg{index}", **call}
            message = {"role": "assistant", "content": "", "tool_calls": [call]}
            yield {"model": body["model"], "created_at": TIMESTAMP, "message": message, "done": False}
        yield self._last(body, prompt_tokens, 7, "stop")

    def _last(self, body: dict[str, Any], prompt_tokens: int, output_tokens: int, reason: str) -> dict[str, Any]:
        empty = {"message": {"role": "assistant", "content": ""}} if "messages" in body else {"response": ""}
        counts = {
            "prompt_eval_count": prompt_tokens,
            "prompt_eval_duration": 1,
            "eval_count": output_tokens,
            "eval_duration": 1,
        }
        done = {"done": True, "done_reason": reason, "total_duration": 5, "load_duration": 1}
        return {"model": body["model"], "created_at": TIMESTAMP, **empty, **done, **counts}

    def _embed(self, body: dict[str, Any]) -> dict[str, Any]:
        self._known(body, "embedding")
        context = self.fake.load(body)
        inputs = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if any(len(_tokens(text)) > context for text in inputs) and not body.get("truncate", True):
            raise RefusedError(400, "the input length exceeds the context length")
        vectors = [[float(len(text)), float(text.count("e")), float(sum(map(ord, text)) % 97), 1.0] for text in inputs]
        lengths = [sum(x * x for x in vector) ** 0.5 for vector in vectors]
        unit = [[round(x / length, 7) for x in vector] for vector, length in zip(vectors, lengths, strict=True)]
        prompt_tokens = sum(len(_tokens(text)) for text in inputs)
        return {"model": body["model"], "embeddings": unit, "total_duration": 3, "prompt_eval_count": prompt_tokens}

    def _pull(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"status": "pulling manifest"}
        if body["model"] == "no-such-model":
            yield {"error": "pull model manifest: file does not exist"}
            return
        for digest, total in (("sha256:" + "a" * 64, 1000), ("sha256:" + "b" * 64, 10)):
            status = {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total}
            yield status
            yield {**status, "completed": total // 2}
            yield {**status, "completed": total}
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        yield {"status": "success"}

    def _json(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, lines: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for number, line in enumerate(lines if self.fake.lines is None else self.fake.lines):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                time.sleep(0.001 if number < PACED_LINES else 0)
            self.wfile.write(b"0\r\n\r\n")
        except OSError:  # the client has gone
            self.close_connection = True


def _tokens(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def _joined(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer to a request without a stream."""
    whole = dict(lines[-1])
    if "message" in whole:
        calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
        content = "".join(line["message"]["content"] for line in lines)
        whole["message"] = {"role": "assistant", "content": content, **({"tool_calls": calls} if calls else {})}
    elif "response" in whole:
        whole["response"] = "".join(line["response"] for line in lines)
    if logprobs := [entry for line in lines for entry in line.get("logprobs", ())]:
        whole["logprobs"] = logprobs
    return whole


def _fitting(schema: dict[str, Any]) -> str:
    """The first object that a plain schema allows."""
    properties = schema["properties"].items()
    return json.dumps(
        {name: kind["enum"][0] if "enum" in kind else kind.get("minimum", 0) for name, kind in properties}
    )
