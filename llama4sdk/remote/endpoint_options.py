"""Validates ``Endpoint.options`` by a backend's own model of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from llama4sdk._text import nearest
from llama4sdk.errors import ConfigurationError, UnknownOptionError

OptionsModel = TypeVar("OptionsModel", bound=BaseModel)


def parse_endpoint_options(
    model: type[OptionsModel],
    values: Mapping[str, JsonValue],
    *,
    backend: str,
    manual: str,
    names: Collection[str] | None = None,
) -> OptionsModel:
    """Return the options; ``names`` are those that the backend takes, by default all fields of ``model``.

    Raises UnknownOptionError for any other name, ConfigurationError for a wrong value. Neither repeats values, which
    may be keys in the wrong place.
    """
    known = model.model_fields if names is None else names
    for name in values:
        if name not in known:
            hint = f"{nearest(name, known, 'Options')} Keys belong into api_key."
            raise UnknownOptionError(f"'{backend}' has no option '{name}'.", hint=hint)
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        name, message = ".".join(map(str, fault["loc"])), fault["msg"].removeprefix("Value error, ")
        hint = f"{manual} says what each is."
        raise ConfigurationError(f"The options of '{backend}' are wrong: {name} {message}.", hint=hint) from None
