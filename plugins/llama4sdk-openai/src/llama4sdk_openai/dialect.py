"""OpenAI's protocol as one profile speaks it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from llama4sdk.catalog.endpoint_tables import Listing
from llama4sdk.errors import APIError, APIStatusError, AuthenticationError, Llama4Error, UnsupportedFeatureError
from llama4sdk.llama4.toolcalls import ToolCallParser
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.status_errors import failure
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings
from llama4sdk_openai import embedding
from llama4sdk_openai.credentials import Access
from llama4sdk_openai.google import GoogleTokens
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import Profile
from llama4sdk_openai.requests import chat_body, completion_body, dumped, messages
from llama4sdk_openai.responses import AnswerReader

__all__ = ["OpenAIDialect"]

NO_STREAMS: Final = re.compile(
    r"stream\w*\b.{0,40}\bnot (be )?(supported|allowed|available)|does ?n.t support stream", re.IGNORECASE
)
NO_USAGE: Final = re.compile(r"stream_options", re.IGNORECASE)


class OpenAIDialect(Dialect):
    """One model at one endpoint."""

    def __init__(
        self,
        profile: Profile,
        model: str,
        context: int,
        access: Access,
        options: Options,
        listing: Listing | None = None,
    ) -> None:
        self.backend = profile.name
        self._profile = profile
        self._model = model
        self._context = context
        self._access = access
        self._options = options
        self._listing = listing
        google = profile.auth == "google" and not access.secrets
        self._google = GoogleTokens() if google else None

    @property
    def waits(self) -> bool:
        """Whether a token of Google's must be fetched."""
        return self._google is not None and self._google.stale

    def ask(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        """A chat or a completion, streamed unless the endpoint has refused streams."""
        make, path = (chat_body, "/chat/completions") if request.messages else (completion_body, "/completions")
        body = make(request, self._profile, self._model, self._context, self._listing, self._options)
        body["stream"] = "unary" not in tried
        if body["stream"] and self._profile.asks_usage and "no_usage" not in tried:
            body["stream_options"] = {"include_usage": True}
        shaped = request.forced_calls and not self._profile.forces_calls  # then the text is the call
        rescue = shaped or (self._options.rescue and request.tools and request.tool_choice != "none")
        reader = AnswerReader(
            self._profile,
            self._model,
            self._context,
            request.sampling.logprobs or 0,
            _rescuer(request) if rescue else None,
        )
        return self._post(path, body), reader

    def failure(self, head: Head, body: bytes) -> Llama4Error:
        """What a status other than 2xx means."""
        error = failure(head, body, backend=self.backend, model=self._model, context=self._context, now=time.time())
        if isinstance(error, AuthenticationError) and self._profile.key_variables:
            error.hint = f"Check the API key: {self._profile.key_variables[0]}, or api_key=."
        return error

    def authorize(self, call: Call) -> Call:
        """With a token of Google's, where that is how the endpoint lets in."""
        if self._google is None:
            return call
        return call.with_headers(Authorization=f"Bearer {self._google.token()}")

    def remedy(self, error: Llama4Error) -> str | None:
        """A new token; one answer instead of a stream; no count in the stream."""
        if self._google is not None and isinstance(error, AuthenticationError):
            self._google.forget()
            return "new_token"
        if isinstance(error, APIStatusError) and error.status in (400, 422, 501):
            if NO_USAGE.search(error.message):
                return "no_usage"
            if NO_STREAMS.search(error.message):
                return "unary"
        return None

    def secrets(self) -> Sequence[str]:
        """The key, and whatever the caller put into headers."""
        return (*self._access.secrets, *(self._google.secrets() if self._google else ()))

    def embed(self, request: EmbedRequest) -> Sequence[Call]:
        """Calls of as many inputs as endpoints take at once."""
        if self._profile.embeddings == "feature-extraction":
            url = f"{self._access.root}/hf-inference/models/{self._model.partition(':')[0]}/pipeline/feature-extraction"
            return [Call("POST", url, self._access.headers, dumped(body)) for body in self._embed_bodies(request)]
        return [self._post("/embeddings", body) for body in self._embed_bodies(request)]

    def embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """The vectors of all of them, in the order of the inputs."""
        return embedding.read(request, [body for _, body in answers], self._model, self.backend)

    def count(self, request: Request) -> Call:
        """VLLM's ``/tokenize``, or what llama.cpp has for it."""
        chat = messages(request, self._profile, self._listing) if request.messages else None
        root = self._access.root
        if self._profile.counting == "vllm":
            body: dict[str, JsonValue] = {"model": self._model}
            body |= {"prompt": request.prompt} if chat is None else {"messages": chat, "add_generation_prompt": True}
            if request.tools:
                body["tools"] = chat_body(
                    request, self._profile, self._model, self._context, self._listing, self._options
                )["tools"]
            return Call("POST", f"{root}/tokenize", self._access.headers, dumped(body))
        if self._profile.counting != "llamacpp":
            raise UnsupportedFeatureError(self.backend, "counting tokens")
        if chat is None:
            body = {"content": request.prompt, "add_special": True}
            return Call("POST", f"{root}/tokenize", self._access.headers, dumped(body))
        body = chat_body(request, self._profile, self._model, self._context, self._listing, self._options)
        return self._post("/chat/completions/input_tokens", body)

    def counted(self, head: Head, body: bytes) -> int:
        """What the answer to that says."""
        told = _object(body)
        for name in ("count", "input_tokens"):
            if isinstance(number := told.get(name), int):
                return number
        if isinstance(tokens := told.get("tokens"), list):
            return len(tokens)
        raise APIError(f"'{self.backend}' did not say how many tokens there are.", backend=self.backend)

    def _embed_bodies(self, request: EmbedRequest) -> list[dict[str, JsonValue]]:
        return embedding.bodies(request, self._profile, self._model)

    def _post(self, path: str, body: Mapping[str, JsonValue]) -> Call:
        return Call("POST", self._access.url(path), self._access.headers, dumped(dict(body)))


def _rescuer(request: Request) -> ToolCallParser:
    """Finds calls in the text; their ids go on where those of the conversation end."""
    before = sum(len(message.tool_calls) for message in request.messages)
    return ToolCallParser([tool.name for tool in request.tools], first=before)


def _object(body: bytes) -> dict[str, JsonValue]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
