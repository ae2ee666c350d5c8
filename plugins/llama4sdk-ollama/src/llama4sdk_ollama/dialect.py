"""Requests as Ollama's native API takes them."""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue
from pydantic_core import from_json

from llama4sdk.constraints import JsonSchema
from llama4sdk.endpoint import Endpoint
from llama4sdk.errors import (
    APIError,
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
from llama4sdk.remote.dialect import Call, Head, Reader
from llama4sdk.remote.status_errors import failure, said
from llama4sdk.requests import EmbedRequest, Request, SamplingParams, Tool
from llama4sdk.results import Embeddings
from llama4sdk_ollama.address import BACKEND, Settings
from llama4sdk_ollama.http_calls import Native
from llama4sdk_ollama.reader import OllamaReader, count_in
from llama4sdk_ollama.token_bounds import fewest_in, fewest_tokens

__all__ = ["OllamaDialect"]

OPTIONS: Final = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repeat_penalty",
    "seed": "seed",
}
"""The SDK's names and Ollama's."""

MISSING: Final = re.compile(r"model .*not found|try pulling", re.IGNORECASE)
LACKS: Final = re.compile(r"does not support (\w+)", re.IGNORECASE)
NO_ROOM: Final = re.compile(r"requires more system memory|out of memory|not enough memory", re.IGNORECASE)


class OllamaDialect(Native):
    """Of one model with one context length: another would make the server load the model anew."""

    def __init__(self, *, endpoint: Endpoint, tag: str, model: str, context: int) -> None:
        """``tag`` is what the server calls the model."""
        super().__init__(endpoint)
        self._settings = Settings.of(endpoint)
        self._tag = tag
        self._model = model
        self._context = context

    def ask(self, request: Request, tried: frozenset[str]) -> tuple[Call, Reader]:
        """Raises ContextLengthError for what cannot fit however it is cut into tokens."""
        fewest = fewest_tokens(request)
        room = room_for_answer(fewest, request.sampling.max_tokens, self._context)
        body = self._body(_options(request.sampling, room)) | {"stream": True, "truncate": False}
        if request.prompt is not None:
            path, body = "/api/generate", body | {"prompt": request.prompt, "raw": True}
        else:
            path, body = "/api/chat", body | {"messages": _messages(request.messages)}
            if request.tools and request.tool_choice != "none":
                body["tools"] = [_tool(tool) for tool in request.tools]
        if isinstance(request.constraint, JsonSchema):
            body["format"] = request.constraint.definition
        if (top := request.sampling.logprobs) is not None:
            body |= {"logprobs": True, "top_logprobs": top}
        first = sum(len(message.tool_calls) for message in request.messages)
        return self.call("POST", path, body), OllamaReader(context=self._context, fewest=fewest, first=first, top=top)

    def loading(self, *, embeds: bool = False) -> Call:
        """The call that loads the model: a request for nothing."""
        if embeds:
            return self.call("POST", "/api/embed", self._body({}) | {"input": []})
        return self.call("POST", "/api/generate", self._body({}) | {"prompt": "", "stream": False})

    def failure(self, head: Head, body: bytes) -> Llama4Error:
        """What Ollama's own words mean, and the rest as any server's."""
        message = said(body).message
        if head.status == 404 and MISSING.search(message):
            return WeightsNotFoundError(
                f"Ollama at {self.url} has no model '{self._tag}'.",
                hint=f"Run 'ollama pull {self._tag}', or llama4sdk_ollama.pull({self._tag!r}).",
            )
        if head.status == 400 and (lacking := LACKS.search(message)):
            return UnsupportedFeatureError(BACKEND, lacking[1], hint=f"Ollama says so of '{self._tag}'.")
        if head.status == 500 and NO_ROOM.search(message):
            hint = "Ask for a smaller context_length, or a smaller model."
            return ModelLoadError(f"Ollama could not load '{self._tag}': {message}.", hint=hint)
        error = failure(head, body, backend=BACKEND, model=self._tag, context=self._context, now=time.time())
        return self.explained(error)

    def embed(self, request: EmbedRequest) -> Sequence[Call]:
        """One call for all texts. Raises UnsupportedFeatureError for what the server decides by itself."""
        if request.pooling != "mean":
            raise UnsupportedFeatureError(
                BACKEND, f"pooling='{request.pooling}'", hint="The model decides. Leave it out."
            )
        if not request.normalize:
            raise UnsupportedFeatureError(BACKEND, "normalize=False", hint="Its vectors have length 1. Leave it out.")
        if (longest := max(map(fewest_in, request.inputs))) > self._context:
            raise ContextLengthError(
                f"A text of {longest} tokens or more does not fit into the context of {self._context}.",
                limit=self._context,
                requested=longest,
                hint="Embed it in pieces, or ask for a larger context_length.",
            )
        inputs: list[JsonValue] = list(request.inputs)
        return [self.call("POST", "/api/embed", self._body({}) | {"input": inputs, "truncate": False})]

    def embeddings(self, request: EmbedRequest, answers: Sequence[tuple[Head, bytes]]) -> Embeddings:
        """Raises APIError for vectors that are not one for each text."""
        try:
            told = from_json(answers[0][1])
            vectors = [_unit(vector) for vector in told["embeddings"]]
        except (ValueError, TypeError, KeyError) as error:
            raise APIError("Ollama sent no embeddings.", backend=BACKEND, hint="Check the address.") from error
        if len(vectors) != len(request.inputs):
            raise APIError(f"Ollama sent {len(vectors)} vectors for {len(request.inputs)} texts.", backend=BACKEND)
        usage = Usage(input_tokens=count_in(told, "prompt_eval_count"))
        return Embeddings(vectors=tuple(vectors), usage=usage, model=self._model, backend=BACKEND)

    def _body(self, options: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """What every request says alike: anything else would load the model again."""
        body: dict[str, JsonValue] = {
            "model": self._tag,
            "shift": False,
            "options": {**self._settings.options, **options, "num_ctx": self._context},
        }
        if self._settings.keep_alive is not None:
            body["keep_alive"] = self._settings.keep_alive
        return body


def _options(sampling: SamplingParams, room: int) -> dict[str, JsonValue]:
    options: dict[str, JsonValue] = {"num_predict": room}
    for ours, theirs in OPTIONS.items():
        if (value := getattr(sampling, ours)) is not None:
            options[theirs] = value
    if sampling.repetition_penalty is not None:
        options["repeat_last_n"] = -1  # all of prompt and answer, not the last 64 tokens
    if sampling.stop:
        options["stop"] = list(sampling.stop)
    return options


def _messages(messages: Sequence[Message]) -> list[JsonValue]:
    names = {call.id: call.name for message in messages for call in message.tool_calls}
    return [_message(message, names) for message in messages]


def _message(message: Message, names: Mapping[str, str]) -> dict[str, JsonValue]:
    told: dict[str, JsonValue] = {"role": message.role, "content": message.text}
    if message.has_images:
        told["images"] = [_image(part) for part in message.parts if isinstance(part, ImagePart)]
    if message.tool_calls:
        told["tool_calls"] = [_tool_call(index, call) for index, call in enumerate(message.tool_calls)]
    if message.role == "tool":
        identity = message.tool_call_id or ""
        named = {"tool_name": message.name or names.get(identity, ""), "tool_call_id": identity}
        told |= {name: value for name, value in named.items() if value}
    return told


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


def _tool(tool: Tool) -> dict[str, JsonValue]:
    parameters: dict[str, JsonValue] = {"type": "object", "properties": {}, **tool.parameters}
    function: JsonValue = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": function}


def _unit(vector: Sequence[float]) -> tuple[float, ...]:
    length = math.hypot(*vector)
    if not (0 < length < math.inf):
        raise ValueError("a vector is zero or not finite")
    return tuple(value / length for value in vector)
