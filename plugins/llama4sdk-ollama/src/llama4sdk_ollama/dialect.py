"""Requests in the form of Ollama's native API."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from llama4sdk.constraints import JsonSchema
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import (
    ContextLengthError,
    InvalidRequestError,
    Llama4Error,
    ModelLoadError,
    UnsupportedFeatureError,
    WeightsNotFoundError,
)
from llama4sdk.events import Usage
from llama4sdk.local.windows import room_for_answer
from llama4sdk.messages import ImagePart, Message, ToolCall
from llama4sdk.remote.chat_messages import function_tool
from llama4sdk.remote.dialect import Call, Head, Reader
from llama4sdk.remote.json_fields import decode_object, token_count
from llama4sdk.remote.status_errors import parse_error_body, status_error
from llama4sdk.remote.vectors import checked_embeddings, embedding_error
from llama4sdk.requests import EmbedRequest, Request, SamplingParams
from llama4sdk.results import Embeddings
from llama4sdk_ollama.address import BACKEND, parse_options
from llama4sdk_ollama.model_names import pull_hint
from llama4sdk_ollama.reader import OllamaReader
from llama4sdk_ollama.server import OllamaApi
from llama4sdk_ollama.token_bounds import min_prompt_tokens, min_text_tokens

#: Sampling options that have the same name there.
SAMPLING_OPTIONS: Final = ("temperature", "top_p", "top_k", "min_p", "seed")

MODEL_MISSING: Final = re.compile(r"model .*not found|try pulling", re.IGNORECASE)
FEATURE_REFUSED: Final = re.compile(r"does not support (\w+)", re.IGNORECASE)
OUT_OF_MEMORY: Final = re.compile(r"requires more system memory|out of memory|not enough memory", re.IGNORECASE)


class OllamaDialect(OllamaApi):
    """One model with one context length: another length would make the server load the model again."""

    def __init__(self, *, endpoint: Endpoint, tag: str, model: str, context_length: int) -> None:
        """``tag`` is the server's name of ``model``."""
        super().__init__(endpoint)
        self._options = parse_options(endpoint)
        self._tag = tag
        self._model = model
        self._context_length = context_length

    def build_call(self, request: Request, remedies: frozenset[str]) -> tuple[Call, Reader]:
        """Build the call. Raises ContextLengthError for what cannot fit whatever the tokenizer."""
        prompt_tokens = min_prompt_tokens(request)
        max_tokens = room_for_answer(prompt_tokens, request.sampling.max_tokens, self._context_length)
        body = self._body(_sampling_options(request.sampling, max_tokens)) | {"stream": True, "truncate": False}
        if request.prompt is not None:
            path, body = "/api/generate", body | {"prompt": request.prompt, "raw": True}
        else:
            tool_names = {call.id: call.name for message in request.messages for call in message.tool_calls}
            messages: list[JsonValue] = [_message(message, tool_names) for message in request.messages]
            path, body = "/api/chat", body | {"messages": messages}
            if request.tools and request.tool_choice != "none":
                body["tools"] = [function_tool(tool) for tool in request.tools]
        if isinstance(request.constraint, JsonSchema):
            body["format"] = request.constraint.definition
        if request.sampling.logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": request.sampling.logprobs}
        reader = OllamaReader(
            context_length=self._context_length,
            min_prompt_tokens=prompt_tokens,
            earlier_calls=sum(len(message.tool_calls) for message in request.messages),
            max_alternatives=request.sampling.logprobs or 0,
        )
        return self.call("POST", path, body), reader

    def load_call(self, *, for_embedding: bool = False) -> Call:
        """Build the call that loads the model: a request with an empty prompt."""
        if for_embedding:
            return self.call("POST", "/api/embed", self._body({}) | {"input": []})
        return self.call("POST", "/api/generate", self._body({}) | {"prompt": "", "stream": False})

    def parse_error(self, head: Head, body: bytes) -> Llama4Error:
        """Return the error of an answer with a status other than 2xx, by Ollama's own words where they are known."""
        message = parse_error_body(body).message
        if head.status == 404 and MODEL_MISSING.search(message):
            return WeightsNotFoundError(f"Ollama at {self.url} has no model '{self._tag}'.", hint=pull_hint(self._tag))
        if head.status == 400 and (refused := FEATURE_REFUSED.search(message)):
            return UnsupportedFeatureError(BACKEND, refused[1], hint=f"Ollama says so of '{self._tag}'.")
        if head.status == 500 and OUT_OF_MEMORY.search(message):
            hint = "Ask for a smaller context_length, or a smaller model."
            return ModelLoadError(f"Ollama could not load '{self._tag}': {message}.", hint=hint)
        error = status_error(
            head, body, backend=BACKEND, model=self._tag, context_length=self._context_length, now=time.time()
        )
        return self.with_key_hint(error)

    def build_embed_calls(self, request: EmbedRequest) -> Sequence[Call]:
        """Build one call for all texts. Raises UnsupportedFeatureError for what the server decides by itself."""
        if request.pooling != "mean":
            raise UnsupportedFeatureError(
                BACKEND, f"pooling='{request.pooling}'", hint="The model decides. Leave it out."
            )
        if not request.normalize:
            raise UnsupportedFeatureError(BACKEND, "normalize=False", hint="Its vectors have length 1. Leave it out.")
        if (longest := max(map(min_text_tokens, request.inputs))) > self._context_length:
            raise ContextLengthError(
                f"A text of {longest} tokens or more does not fit into the context of {self._context_length}.",
                limit=self._context_length,
                requested=longest,
                hint="Embed it in pieces, or ask for a larger context_length.",
            )
        inputs: list[JsonValue] = list(request.inputs)
        return [self.call("POST", "/api/embed", self._body({}) | {"input": inputs, "truncate": False})]

    def read_embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """Return the vectors. Raises APIError unless there is one for each text."""
        ((_, body),) = answers
        try:
            answer = decode_object(body)
            vectors = answer["embeddings"]
        except (ValueError, KeyError) as error:
            raise embedding_error(BACKEND, "no vectors") from error
        usage = Usage(input_tokens=token_count(answer, "prompt_eval_count"))
        return checked_embeddings(request, vectors, usage, model=self._model, backend=BACKEND)

    def _body(self, options: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Return the fields of every request: other values than before would make the server load the model again."""
        body: dict[str, JsonValue] = {
            "model": self._tag,
            "shift": False,
            "options": {**self._options.options, **options, "num_ctx": self._context_length},
        }
        if self._options.keep_alive is not None:
            body["keep_alive"] = self._options.keep_alive
        return body


def _sampling_options(sampling: SamplingParams, max_tokens: int) -> dict[str, JsonValue]:
    options: dict[str, JsonValue] = {"num_predict": max_tokens}
    options |= {name: value for name in SAMPLING_OPTIONS if (value := getattr(sampling, name)) is not None}
    if sampling.repetition_penalty is not None:
        options["repeat_penalty"] = sampling.repetition_penalty
        options["repeat_last_n"] = -1  # all of prompt and answer, not the last 64 tokens
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    return options


def _message(message: Message, tool_names: Mapping[str, str]) -> dict[str, JsonValue]:
    body: dict[str, JsonValue] = {"role": message.role, "content": message.text}
    if message.has_images:
        body["images"] = [_image(part) for part in message.parts if isinstance(part, ImagePart)]
    if message.tool_calls:
        body["tool_calls"] = [_tool_call(index, call) for index, call in enumerate(message.tool_calls)]
    if message.role == "tool":
        call_id = message.tool_call_id or ""
        fields = {"tool_name": message.name or tool_names.get(call_id, ""), "tool_call_id": call_id}
        body |= {name: value for name, value in fields.items() if value}
    return body


def _image(part: ImagePart) -> str:
    if part.data is None:
        raise InvalidRequestError(
            "Ollama takes images, not their addresses.", hint="Fetch it, and pass ImagePart(data=...)."
        )
    return base64.b64encode(part.data).decode()


def _tool_call(index: int, call: ToolCall) -> dict[str, JsonValue]:
    try:
        arguments = call.parsed()
    except ValueError as error:
        raise InvalidRequestError(
            f"Ollama takes no tool call whose arguments are no JSON object: {error}.",
            hint="Leave the message out, or correct its tool calls.",
        ) from error
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}
