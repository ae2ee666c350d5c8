"""The base of all public data: frozen, keyword-only, and closed to unknown fields; and text that strangers wrote."""

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict

__all__ = ["Label", "Value"]

LONGEST: Final = 500


def _label(text: str) -> str:
    """In one line, without what a terminal would obey."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


Label: TypeAlias = Annotated[str, AfterValidator(_label)]
"""A name that a driver, a kernel or a file gave: printable, and not longer than a paragraph."""


class Value(BaseModel):
    """An immutable value; ``model_dump_json`` and ``model_validate_json`` round-trip it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")
