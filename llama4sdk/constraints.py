"""Constraints of an answer: JSON of a schema, text that matches a regular expression, or a grammar's language."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias, TypeVar, cast

from pydantic import Field, JsonValue, PrivateAttr, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, from_json

from llama4sdk._text import in_words
from llama4sdk._values import Value
from llama4sdk.errors import InvalidRequestError

__all__ = ["Constraint", "Grammar", "JsonSchema", "Regex", "SchemaLike", "as_constraint"]

T = TypeVar("T")

#: A type that pydantic can read from JSON (a model, a dataclass, ``list[int]``), or a JSON schema.
SchemaLike: TypeAlias = type[T] | TypeAdapter[T] | Mapping[str, object]


class JsonSchema(Value):
    """The answer is JSON that this schema allows. A schema made of a type also parses the answer as that type."""

    kind: Literal["json_schema"] = "json_schema"
    definition: dict[str, JsonValue]
    _adapter: TypeAdapter[object] | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, schema: object) -> JsonSchema:
        """Make a schema of a type, a ``TypeAdapter`` or a JSON schema; objects of a type get no additional fields.

        Raises InvalidRequestError for a mapping that is no JSON, and for a type that pydantic cannot describe.
        """
        if isinstance(schema, Mapping):
            return _from_mapping(schema)
        try:
            if isinstance(schema, str):  # pydantic would run it as code
                raise TypeError("it is text, and neither a type nor a dict")
            adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter(cast("type[object]", schema))
            definition = adapter.json_schema(schema_generator=_ClosedObjects)
        except (PydanticUserError, NameError, TypeError, SyntaxError) as error:
            reason = str(error).splitlines()[0]
            hint = "Pass a pydantic model, another type that JSON can carry, or a JSON schema as a dict."
            raise InvalidRequestError(f"schema={schema!r} cannot be described: {reason}", hint=hint) from error
        constraint = cls(definition=definition)
        constraint._adapter = adapter
        return constraint

    def __eq__(self, other: object) -> bool:
        """Compare definitions alone, so that two schemas of one type are equal."""
        return isinstance(other, JsonSchema) and self.definition == other.definition

    __hash__ = None  # type: ignore[assignment]  # a dict has no hash

    def read(self, text: str) -> object:
        """Parse an answer as the type the schema was made of, or as plain JSON. Raises ValueError."""
        return from_json(text, allow_inf_nan=False) if self._adapter is None else self._adapter.validate_json(text)


class Regex(Value):
    """The whole answer matches ``pattern``."""

    kind: Literal["regex"] = "regex"
    pattern: Annotated[str, Field(min_length=1)]


class Grammar(Value):
    """The answer belongs to the language of ``lark``, a grammar in Lark's notation with the start rule ``start``."""

    kind: Literal["grammar"] = "grammar"
    lark: Annotated[str, Field(min_length=1)]


Constraint: TypeAlias = Annotated[JsonSchema | Regex | Grammar, Field(discriminator="kind")]


def as_constraint(schema: object, regex: object = None, grammar: object = None) -> JsonSchema | Regex | Grammar | None:
    """Make a constraint of the argument that is given, if any. Raises InvalidRequestError for several or invalid ones.

    Schema keywords and patterns that an engine cannot enforce are refused by the engine.
    """
    arguments = {"schema": schema, "regex": regex, "grammar": grammar}
    given = [name for name, value in arguments.items() if value is not None]
    if len(given) > 1:
        raise InvalidRequestError(
            f"An answer has one shape, and {' and '.join(given)} were given.",
            hint=f"Pass only one of {', '.join(arguments)}.",
        )
    if schema is not None:
        return JsonSchema.of(schema)
    try:
        if regex is not None:
            return Regex.model_validate({"pattern": regex})
        return None if grammar is None else Grammar.model_validate({"lark": grammar})
    except ValidationError as error:
        raise InvalidRequestError(f"Invalid {given[0]}: {in_words(error)}.", hint="Pass it as text.") from error


def _from_mapping(schema: Mapping[str, object]) -> JsonSchema:
    try:
        json.dumps(dict(schema), allow_nan=False)
        return JsonSchema(definition=cast("dict[str, JsonValue]", dict(schema)))
    except (ValidationError, TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(
            f"The schema is no JSON: {in_words(error)}.",
            hint="A JSON schema is made of dicts, lists, strings, numbers, bools and None.",
        ) from error


class _ClosedObjects(GenerateJsonSchema):
    """Forbid additional fields, which a model would write and pydantic ignore."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _forbid_additional_fields(super().model_schema(schema))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _forbid_additional_fields(super().dataclass_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return _forbid_additional_fields(super().typed_dict_schema(schema))


def _forbid_additional_fields(definition: JsonSchemaValue) -> JsonSchemaValue:
    return {"additionalProperties": False} | definition if "properties" in definition else definition
