"""Bodies for the containers behind SageMaker endpoints: OpenAI's form for chats, TGI's form for prompts. Pure.

LMI (Large Model Inference, usually with vLLM) and TGI (Text Generation Inference) differ in the options they take.
"""

from __future__ import annotations

from typing import Final

from pydantic import JsonValue

from llama4sdk.remote.chat_messages import chat_messages, function_tool
from llama4sdk.requests import Request, SamplingParams

Body = dict[str, JsonValue]

#: The sampling options that each kind of container honours in all of its forms.
SAMPLING_BY_CONTAINER: Final = {
    "lmi": frozenset({"max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop"}),
    "tgi": frozenset({"max_tokens", "temperature", "top_p", "seed", "stop"}),
}


def container_body(request: Request, container: str) -> Body:
    """Return the body of a request for a stream. Raises InvalidRequestError for images that are not given as bytes."""
    return _chat_body(request) if request.prompt is None else _prompt_body(request, container)


def _chat_body(request: Request) -> Body:
    body: Body = {
        "messages": chat_messages(request.messages, "sagemaker", image_urls=False),
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.tools:
        body["tools"] = [function_tool(tool) for tool in request.tools]
    return body | _sampling_fields(request.sampling)


def _prompt_body(request: Request, container: str) -> Body:
    names = {"max_tokens": "max_new_tokens", "stop": "stop" if container == "tgi" else "stop_sequences"}
    parameters: Body = {
        names.get(name, name): value
        for name, value in _sampling_fields(request.sampling).items()
        if not (name == "top_p" and value == 1)  # TGI refuses the value that changes nothing
    }
    is_greedy = parameters.get("temperature") == 0
    if is_greedy:
        del parameters["temperature"]
    if is_greedy or "temperature" in parameters or "top_p" in parameters or "top_k" in parameters:
        parameters["do_sample"] = not is_greedy
    parameters["details"] = True
    if container == "tgi":
        parameters["return_full_text"] = False
    return {"inputs": request.prompt, "parameters": parameters, "stream": True}


def _sampling_fields(sampling: SamplingParams) -> Body:
    values = {name: getattr(sampling, name) for name in sorted(sampling.asked())}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
