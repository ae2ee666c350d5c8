"""What the containers behind SageMaker endpoints take: chats as OpenAI has them, prompts in TGI's form. Pure.

LMI (Large Model Inference, usually with vLLM) and TGI (Text Generation Inference) differ in which options they know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import JsonValue

from llama4sdk.errors import InvalidRequestError
from llama4sdk.messages import ImagePart, Message, TextPart
from llama4sdk.remote.data_urls import data_url
from llama4sdk.requests import Request, SamplingParams

__all__ = ["SAMPLING", "payload"]

Body = dict[str, JsonValue]

SAMPLING: Final = {
    "lmi": frozenset({"max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop"}),
    "tgi": frozenset({"max_tokens", "temperature", "top_p", "seed", "stop"}),
}
"""The sampling options each dialect honours in all of its forms."""


def payload(request: Request, dialect: str) -> Body:
    """The body to stream an answer to ``request``."""
    return _chat(request) if request.prompt is None else _prompt(request, dialect)


def _chat(request: Request) -> Body:
    body: Body = {"messages": list(_messages(request.messages)), "stream": True}
    body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters or {"type": "object", "properties": {}},
                },
            }
            for tool in request.tools
        ]
    return body | _asked(request.sampling)


def _prompt(request: Request, dialect: str) -> Body:
    sampling = _asked(request.sampling)
    names = {"max_tokens": "max_new_tokens", "stop": "stop" if dialect == "tgi" else "stop_sequences"}
    parameters: Body = {
        names.get(name, name): value
        for name, value in sampling.items()
        if not (name == "top_p" and value == 1)  # TGI refuses what would change nothing
    }
    greedy = parameters.get("temperature") == 0
    if greedy:
        del parameters["temperature"]
    if greedy or "temperature" in parameters or "top_p" in parameters or "top_k" in parameters:
        parameters["do_sample"] = not greedy
    parameters["details"] = True
    if dialect == "tgi":
        parameters["return_full_text"] = False
    return {"inputs": request.prompt, "parameters": parameters, "stream": True}


def _asked(sampling: SamplingParams) -> Body:
    body = Body()
    for name in sorted(sampling.asked()):
        value = getattr(sampling, name)
        body[name] = list(value) if isinstance(value, tuple) else value
    return body


def _messages(messages: tuple[Message, ...]) -> Iterator[JsonValue]:
    for message in messages:
        entry: Body = {"role": message.role, "content": _content(message)}
        if message.tool_calls:
            entry["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if message.tool_call_id is not None:
            entry["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            entry["name"] = message.name
        yield entry


def _content(message: Message) -> JsonValue:
    if not message.has_images:
        return message.text
    return [
        {"type": "text", "text": part.text}
        if isinstance(part, TextPart)
        else {"type": "image_url", "image_url": {"url": _image_url(part)}}
        for part in message.parts
    ]


def _image_url(part: ImagePart) -> str:
    """The bytes as an address; containers seldom reach any other."""
    if part.data is None:
        raise InvalidRequestError(
            "The image has a url, and a SageMaker container is sent bytes.", hint="Fetch it yourself and pass data=."
        )
    return data_url(part)
