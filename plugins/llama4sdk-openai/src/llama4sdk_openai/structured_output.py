"""Fields of a request that constrain its answer: JSON schema, regular expression, Lark grammar. Pure."""

from __future__ import annotations

import json
from typing import assert_never

from pydantic import JsonValue

from llama4sdk.constraints import Constraint, Grammar, JsonSchema, Regex
from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk_openai.profiles import ConstraintField, Profile

Body = dict[str, JsonValue]


def constraint_fields(constraint: Constraint, profile: Profile, *, chat: bool) -> Body:
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
