"""What an answer must look like: JSON of a schema, text that a regular expression matches, or a grammar's language."""

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

SchemaLike: TypeAlias = type[T] | TypeAdapter[T] | Mapping[str, object]
"""A type that pydantic can read from JSON (a model, a dataclass, ``list[int]``), or a JSON schema."""


class JsonSchema(Value):
    """The answer is JSON that this schema allows. Made of a type, it reads the answer as that type, too."""

    kind: Literal["json_schema"] = "json_schema"
    definition: dict[str, JsonValue]
    _adapter: TypeAdapter[object] | None = PrivateAttr(default=None)

    @classmethod
    def of(cls, schema: object) -> JsonSchema:
        """From whatever ``SchemaLike`` covers; of a type's objects only its fields may be written.

        Raises InvalidRequestError for a mapping that is no JSON, and for what pydantic cannot describe.
        """
        if isinstance(schema, Mapping):
            return _of_mapping(schema)
        try:
            if isinstance(schema, str):  # pydantic would run it as code
                raise TypeError("it is text, and neither a type nor a dict")
            adapter = schema if isinstance(schema, TypeAdapter) else TypeAdapter(cast("type[object]", schema))
            definition = adapter.json_schema(schema_generator=_Closed)
        except (PydanticUserError, NameError, TypeError, SyntaxError) as error:
            reason = str(error).splitlines()[0]
            hint = "Pass a pydantic model, another type that JSON can carry, or a JSON schema as a dict."
            raise InvalidRequestError(f"schema={schema!r} cannot be described: {reason}", hint=hint) from error
        made = cls(definition=definition)
        made._adapter = adapter
        return made

    def __eq__(self, other: object) -> bool:
        """Schemas are what they say; two that were made of one type are equal."""
        return isinstance(other, JsonSchema) and self.definition == other.definition

    __hash__ = None  # type: ignore[assignment]  # a dict has no hash

    def read(self, text: str) -> object:
        """An answer's value: of the type the schema was made of, or as plain JSON. Raises ValueError."""
        return from_json(text, allow_inf_nan=False) if self._adapter is None else self._adapter.validate_json(text)


class Regex(Value):
    """The whole answer matches ``pattern``."""

    kind: Literal["regex"] = "regex"
    pattern: Annotated[str, Field(min_length=1)]


class Grammar(Value):
    """The answer is of the language that ``lark``, a grammar in Lark's notation, describes from its rule ``start``."""

    kind: Literal["grammar"] = "grammar"
    lark: Annotated[str, Field(min_length=1)]


Constraint: TypeAlias = Annotated[JsonSchema | Regex | Grammar, Field(discriminator="kind")]


def as_constraint(schema: object, regex: object = None, grammar: object = None) -> JsonSchema | Regex | Grammar | None:
    """The one of the three that was given. Raises InvalidRequestError for several, and for what cannot mean anything.

    What only the engine can tell (a keyword it cannot enforce, a pattern it cannot read) is for the engine to refuse.
    """
    asked = {"schema": schema, "regex": regex, "grammar": grammar}
    given = [name for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise InvalidRequestError(
            f"An answer has one shape, and {' and '.join(given)} were given.",
            hint=f"Pass only one of {', '.join(asked)}.",
        )
    if schema is not None:
        return JsonSchema.of(schema)
    try:
        if regex is not None:
            return Regex.model_validate({"pattern": regex})
        return None if grammar is None else Grammar.model_validate({"lark": grammar})
    except ValidationError as error:
        raise InvalidRequestError(f"Invalid {given[0]}: {in_words(error)}.", hint="Pass it as text.") from error


def _of_mapping(schema: Mapping[str, object]) -> JsonSchema:
    try:
        json.dumps(dict(schema), allow_nan=False)
        return JsonSchema(definition=cast("dict[str, JsonValue]", dict(schema)))
    except (ValidationError, TypeError, ValueError, RecursionError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise InvalidRequestError(
            f"The schema is no JSON: {reason}.",
            hint="A JSON schema is made of dicts, lists, strings, numbers, bools and None.",
        ) from error


class _Closed(GenerateJsonSchema):
    """Pydantic ignores fields it does not know; a model that is free to write them would."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        return _closed(super().model_schema(schema))

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return _closed(super().dataclass_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return _closed(super().typed_dict_schema(schema))


def _closed(definition: JsonSchemaValue) -> JsonSchemaValue:
    return {"additionalProperties": False} | definition if "properties" in definition else definition
