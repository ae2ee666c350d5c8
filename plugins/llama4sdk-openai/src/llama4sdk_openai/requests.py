"""Bodies of ``/chat/completions`` and ``/completions``. Pure."""

from __future__ import annotations

import json
from typing import Final, NamedTuple, assert_never

from pydantic import JsonValue

from llama4sdk.catalog.endpoint_tables import Listing
from llama4sdk.constraints import Constraint, Grammar, JsonSchema, Regex
from llama4sdk.errors import ContextLengthError, InvalidRequestError, UnsupportedFeatureError
from llama4sdk.messages import ImagePart
from llama4sdk.remote.chat_messages import chat_messages, function_tool
from llama4sdk.requests import Request, SamplingParams, Tool
from llama4sdk_openai.options import Options
from llama4sdk_openai.profiles import ConstraintField, Profile

Body = dict[str, JsonValue]

SAMPLING_OPTIONS: Final = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed")

#: Tokens that a server may put before a prompt.
PROMPT_OVERHEAD_TOKENS: Final = 16
MIN_ANSWER_TOKENS: Final = 16


class Target(NamedTuple):
    """The model that requests are for, at one endpoint; ``listing`` has its limits, where they are known."""

    profile: Profile
    model: str
    context_length: int
    options: Options
    listing: Listing | None = None


def chat_body(request: Request, target: Target) -> Body:
    """Return the body of a chat. Raises UnsupportedFeatureError and the like for what the endpoint would not do."""
    profile = target.profile
    body: Body = {"model": target.model, "messages": message_fields(request, target)}
    body |= _sampling_fields(request.sampling, target)
    if request.sampling.logprobs is not None:
        body |= _logprobs_fields(request, profile)
    if request.tools:
        body |= tool_fields(request, profile)
    if request.constraint is not None:
        body |= _constraint_fields(request.constraint, profile, chat=True)
    return body | profile.chat_fields | _provider_fields(target) | target.options.extra_body


def completion_body(request: Request, target: Target) -> Body:
    """Return the body that continues raw text. Raises the same."""
    profile, prompt = target.profile, request.prompt or ""
    body: Body = {"model": target.model, "prompt": prompt}
    body |= _sampling_fields(request.sampling, target)
    if request.sampling.max_tokens is None:
        body |= _default_limit(prompt, target)
    if request.sampling.logprobs is not None:
        if not profile.completion_logprobs:
            raise UnsupportedFeatureError(profile.name, "logprobs of raw text", hint="Use chat.")
        body["logprobs"] = max(1, _checked_logprobs(request.sampling.logprobs, profile))
    if request.constraint is not None:
        body |= _constraint_fields(request.constraint, profile, chat=False)
    return body | profile.completion_fields | _provider_fields(target) | target.options.extra_body


def message_fields(request: Request, target: Target) -> list[JsonValue]:
    """Return the conversation. Raises UnsupportedFeatureError for more images than the model takes."""
    images = sum(isinstance(part, ImagePart) for message in request.messages for part in message.parts)
    limit = target.listing.max_images if target.listing else None
    if limit is not None and images > limit:
        feature, hint = f"{images} images in one request", f"It takes {limit} at most."
        raise UnsupportedFeatureError(target.profile.name, feature, hint=hint)
    return chat_messages(request.messages, target.profile.name)


def tool_fields(request: Request, profile: Profile) -> Body:
    """Return the tools and which of them must be called, as far as the endpoint can be told."""
    choice = request.tool_choice
    is_named = choice not in ("auto", "none", "required")
    tools = request.forced_calls if is_named and not profile.named_tool_choice else request.tools
    definitions: list[JsonValue] = [function_tool(tool) for tool in tools]
    if request.forced_calls and not profile.enforces_tool_choice:
        schema = JsonSchema(definition={"anyOf": [_call_schema(tool) for tool in request.forced_calls]})
        return {"tools": definitions, "tool_choice": "none", **_constraint_fields(schema, profile, chat=True)}
    if not is_named:
        return {"tools": definitions, "tool_choice": choice}
    if not profile.named_tool_choice:
        return {"tools": definitions, "tool_choice": "required"}
    return {"tools": definitions, "tool_choice": {"type": "function", "function": {"name": choice}}}


def _constraint_fields(constraint: Constraint, profile: Profile, *, chat: bool) -> Body:
    """Return the fields for ``/chat/completions``, or for ``/completions`` without ``chat``.

    Raises UnsupportedFeatureError for a kind of constraint that the server does not take, or takes in chats only.
    """
    field = profile.constraints.get(constraint.kind)
    if field is None:
        raise UnsupportedFeatureError(profile.name, constraint.kind, hint="Use schema=, a JSON schema or a type.")
    if not chat and field in ("response_format", "tgi"):
        raise UnsupportedFeatureError(profile.name, "raw text of a given shape", hint="Use chat.")
    match constraint:
        case JsonSchema():
            return _schema_fields(constraint.definition, field, chat=chat)
        case Regex():
            return _regex_fields(constraint.pattern, field)
        case Grammar():
            return {"structured_outputs": {"grammar": constraint.lark}}
        case _:
            assert_never(constraint)


def _schema_fields(schema: dict[str, JsonValue], field: ConstraintField, *, chat: bool) -> Body:
    if field == "structured_outputs":
        return {"structured_outputs": {"json": schema}}
    if field == "json_schema":
        return {"json_schema": schema}
    if field == "tgi":
        return {"response_format": {"type": "json", "value": schema}}
    if field == "sglang" and not chat:
        return {"json_schema": json.dumps(schema)}
    named_schema: Body = {"name": "answer", "schema": schema, "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": named_schema}}


def _regex_fields(pattern: str, field: ConstraintField) -> Body:
    if field == "structured_outputs":
        return {"structured_outputs": {"regex": pattern}}
    if field == "tgi":
        return {"response_format": {"type": "regex", "value": pattern}}
    return {"regex": pattern}


def _provider_fields(target: Target) -> Body:
    """Add OpenRouter's order of providers to the rule that they honour every parameter."""
    if not isinstance(target.options.provider, dict):
        return {}
    rule = target.profile.chat_fields.get("provider")
    return {"provider": {**(rule if isinstance(rule, dict) else {}), **target.options.provider}}


def _sampling_fields(sampling: SamplingParams, target: Target) -> Body:
    profile, context_length = target.profile, target.context_length
    if sampling.max_tokens is not None and sampling.max_tokens >= context_length:
        raise ContextLengthError(
            f"max_tokens={sampling.max_tokens} leaves no room for a prompt in the context of {context_length}.",
            limit=context_length,
            requested=sampling.max_tokens + 1,
            hint="Lower max_tokens, or use an endpoint with a longer context.",
        )
    max_temperature = target.listing.max_temperature if target.listing else None
    if max_temperature is not None and (sampling.temperature or 0) > max_temperature:
        raise InvalidRequestError(
            f"temperature is {sampling.temperature}; '{profile.name}' takes at most {max_temperature:g}.",
            hint="Lower it; the endpoint would refuse the request.",
        )
    body: Body = {}
    for name in SAMPLING_OPTIONS:
        value: float | None = getattr(sampling, name)
        if value is not None and profile.omitted_values.get(name) != value:
            body[profile.option_names.get(name, name)] = value
            body |= profile.option_companions.get(name, {})
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _logprobs_fields(request: Request, profile: Profile) -> Body:
    if request.tools and not profile.logprobs_with_tools:
        raise UnsupportedFeatureError(profile.name, "logprobs together with tools", hint="Ask for one of them.")
    alternatives = _checked_logprobs(request.sampling.logprobs or 0, profile)
    if profile.logprobs == "integer":
        return {"logprobs": max(1, alternatives)}
    return {"logprobs": True, "top_logprobs": alternatives}


def _checked_logprobs(alternatives: int, profile: Profile) -> int:
    if alternatives > profile.max_logprobs:
        hint = f"It gives those of {profile.max_logprobs} alternatives at most."
        raise UnsupportedFeatureError(profile.name, f"logprobs={alternatives}", hint=hint)
    return alternatives


def _default_limit(prompt: str, target: Target) -> Body:
    """Return the tokens that surely fit after a prompt: without a limit many servers end raw text after 16."""
    remaining = target.context_length - len(prompt.encode()) - PROMPT_OVERHEAD_TOKENS  # a token has at least one byte
    if target.listing is not None and target.listing.max_output is not None:
        remaining = min(remaining, target.listing.max_output)
    fits = target.profile.completion_limit == "remaining_context" and remaining >= MIN_ANSWER_TOKENS
    return {"max_tokens": remaining} if fits else {}


def _call_schema(tool: Tool) -> Body:
    """Return the JSON schema of one call."""
    arguments = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "object",
        "properties": {"name": {"const": tool.name}, "arguments": arguments},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
