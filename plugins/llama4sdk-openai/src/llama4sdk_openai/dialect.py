"""OpenAI's protocol as the endpoint of one profile speaks it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from llama4sdk.catalog.endpoint_tables import Listing
from llama4sdk.errors import APIError, APIStatusError, AuthenticationError, Llama4Error, UnsupportedFeatureError
from llama4sdk.llama4.toolcalls import ToolCallParser
from llama4sdk.remote.dialect import Call, Dialect, Head, Reader
from llama4sdk.remote.json_fields import decode_object, encode_json
from llama4sdk.remote.status_errors import status_error
from llama4sdk.requests import EmbedRequest, Request
from llama4sdk.results import Embeddings
from llama4sdk_openai.credentials import GoogleTokens, ResolvedEndpoint
from llama4sdk_openai.embedding import embed_bodies, parse_embeddings
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import Profile
from llama4sdk_openai.requests import Target, chat_body, completion_body, message_fields, tool_fields
from llama4sdk_openai.responses import ChatReader

STREAMS_REFUSED: Final = re.compile(
    r"stream\w*\b.{0,40}\bnot (be )?(supported|allowed|available)|does ?n.t support stream", re.IGNORECASE
)
USAGE_REFUSED: Final = re.compile(r"stream_options", re.IGNORECASE)


class OpenAIDialect(Dialect):
    """One model at one endpoint."""

    def __init__(
        self,
        profile: Profile,
        model: str,
        context_length: int,
        endpoint: ResolvedEndpoint,
        options: Options,
        listing: Listing | None = None,
    ) -> None:
        self.backend = profile.name
        self._profile = profile
        self._target = Target(profile, model, context_length, options, listing)
        self._endpoint = endpoint
        self._google = GoogleTokens() if profile.auth == "google" and not endpoint.secrets else None

    @property
    def authorize_blocks(self) -> bool:
        """Whether a token of Google's must be fetched."""
        return self._google is not None and self._google.is_stale

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        """Build the call of a chat or a completion, streamed unless the endpoint has refused streams."""
        make_body, path = (chat_body, "/chat/completions") if request.messages else (completion_body, "/completions")
        body = make_body(request, self._target)
        body["stream"] = "unary" not in remedies
        if body["stream"] and self._profile.requests_usage and "no_usage" not in remedies:
            body["stream_options"] = {"include_usage": True}
        return self._post(self._endpoint.url(path), body), self._reader(request)

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        """Return the error of an answer with a status other than 2xx."""
        model, context_length = self._target.model, self._target.context_length
        error = status_error(
            head, body, backend=self.backend, model=model, context_length=context_length, now=time.time()
        )
        if isinstance(error, AuthenticationError) and self._profile.key_variables:
            error.hint = f"Check the API key: {self._profile.key_variables[0]}, or api_key=."
        return error

    def authorize(self, call: Call) -> Call:
        """Add a token of Google's, where that is how the endpoint authenticates."""
        if self._google is None:
            return call
        return call.with_headers(Authorization=f"Bearer {self._google.token()}")

    def remedy(self, error: Llama4Error) -> str | None:
        """Name what may help: a new token, a whole answer instead of a stream, a stream without usage."""
        if self._google is not None and isinstance(error, AuthenticationError):
            self._google.forget()
            return "new_token"
        if isinstance(error, APIStatusError) and error.status in (400, 422, 501):
            if USAGE_REFUSED.search(error.message):
                return "no_usage"
            if STREAMS_REFUSED.search(error.message):
                return "unary"
        return None

    def secrets(self) -> Sequence[str]:
        """Return the key, Google's token, and the values of the caller's own headers."""
        return (*self._endpoint.secrets, *(self._google.secrets() if self._google else ()))

    def build_embed_calls(self, request: EmbedRequest) -> Sequence[Call]:
        """Build calls of as many inputs as endpoints take at once."""
        url = self._endpoint.url("/embeddings")
        if self._profile.embeddings == "feature-extraction":
            model = self._target.model.partition(":")[0]
            url = f"{self._endpoint.server_root}/hf-inference/models/{model}/pipeline/feature-extraction"
        return [self._post(url, body) for body in embed_bodies(request, self._profile, self._target.model)]

    def read_embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """Return the vectors of all answers, in the order of the inputs."""
        return parse_embeddings(request, [body for _, body in answers], self._target.model, self.backend)

    def build_count_call(self, request: Request) -> Call:
        """Build the call of vLLM's ``/tokenize``, or of what llama.cpp has for it."""
        root = self._endpoint.server_root
        if self._profile.counting_api == "vllm":
            return self._post(f"{root}/tokenize", self._tokenize_body(request))
        if self._profile.counting_api != "llamacpp":
            raise UnsupportedFeatureError(self.backend, "counting tokens")
        if not request.messages:
            return self._post(f"{root}/tokenize", {"content": request.prompt, "add_special": True})
        return self._post(self._endpoint.url("/chat/completions/input_tokens"), chat_body(request, self._target))

    def read_count(self, head: Head, body: bytes) -> int:
        """Return the number of tokens in the answer to that call."""
        try:
            answer = decode_object(body)
        except ValueError:
            answer = {}
        for name in ("count", "input_tokens"):
            if isinstance(number := answer.get(name), int):
                return number
        if isinstance(tokens := answer.get("tokens"), list):
            return len(tokens)
        raise APIError(f"'{self.backend}' did not say how many tokens there are.", backend=self.backend)

    def _tokenize_body(self, request: Request) -> dict[str, JsonValue]:
        body: dict[str, JsonValue] = {"model": self._target.model}
        if not request.messages:
            return body | {"prompt": request.prompt}
        body |= {"messages": message_fields(request, self._target), "add_generation_prompt": True}
        if request.tools:
            body["tools"] = tool_fields(request, self._profile)["tools"]
        return body

    def _reader(self, request: Request) -> ChatReader:
        """Return the reader of an answer; it looks for calls in the text where the server leaves them there."""
        shaped_as_call = request.forced_calls and not self._profile.enforces_tool_choice
        rescue = self._target.options.rescue and request.tools and request.tool_choice != "none"
        parser = None
        if shaped_as_call or rescue:
            earlier_calls = sum(len(message.tool_calls) for message in request.messages)
            parser = ToolCallParser([tool.name for tool in request.tools], first=earlier_calls)
        return ChatReader(
            self._profile,
            self._target.model,
            self._target.context_length,
            max_alternatives=request.sampling.logprobs or 0,
            call_parser=parser,
        )

    def _post(self, url: str, body: Mapping[str, JsonValue]) -> Call:
        return Call("POST", url, self._endpoint.headers, encode_json(body))
