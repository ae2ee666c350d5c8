"""What an answer must look like, said the way each server wants it. Pure."""

from __future__ import annotations

import json
from typing import assert_never

from pydantic import JsonValue

from llama4sdk.constraints import Constraint, Grammar, JsonSchema, Regex
from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk_openai.gbnf import from_lark, from_regex
from llama4sdk_openai.profiles import Profile

__all__ = ["shaped"]

Body = dict[str, JsonValue]


def shaped(constraint: Constraint, profile: Profile, *, chat: bool) -> Body:
    """The fields of a request that keep its answer to this shape.

    Raises UnsupportedFeatureError where ``/completions`` has none, and for what the server's notation cannot say.
    """
    style = profile.shapes[constraint.kind]
    if not chat and style in ("response_format", "tgi"):
        raise UnsupportedFeatureError(profile.name, "raw text of a given shape", hint="Use chat.")
    match constraint:
        case JsonSchema():
            return _schema(constraint.definition, style, chat=chat)
        case Regex():
            return _regex(constraint.pattern, style, profile)
        case Grammar():
            return _grammar(constraint.lark, style, profile)
        case _:
            assert_never(constraint)


def _schema(schema: dict[str, JsonValue], style: str, *, chat: bool) -> Body:
    named: Body = {"name": "answer", "schema": schema, "strict": True}
    if style == "structured_outputs":
        return {"structured_outputs": {"json": schema}}
    if style == "json_schema":
        return {"json_schema": schema}
    if style == "tgi":
        return {"response_format": {"type": "json", "value": schema}}
    if style == "sglang" and not chat:
        return {"json_schema": json.dumps(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": named}}


def _regex(pattern: str, style: str, profile: Profile) -> Body:
    if style == "structured_outputs":
        return {"structured_outputs": {"regex": pattern}}
    if style == "tgi":
        return {"response_format": {"type": "regex", "value": pattern}}
    return {"grammar": from_regex(pattern, profile.name)} if style == "gbnf" else {"regex": pattern}


def _grammar(lark: str, style: str, profile: Profile) -> Body:
    if style == "structured_outputs":
        return {"structured_outputs": {"grammar": lark}}
    return {"grammar" if style == "gbnf" else "ebnf": from_lark(lark, profile.name)}
