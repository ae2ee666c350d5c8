"""Base class of all public data (frozen, keyword-only, no unknown fields), and text from untrusted sources."""

from typing import Annotated, Final, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict

MAX_LABEL_LENGTH: Final = 500


def _label(text: str) -> str:
    """Replace control characters, which a terminal would interpret, by spaces, and shorten."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text[: MAX_LABEL_LENGTH + 1])
    return printable if len(printable) <= MAX_LABEL_LENGTH else printable[: MAX_LABEL_LENGTH - 1] + "…"


#: A name read from a driver, a kernel or a file: printable, at most 500 characters.
Label: TypeAlias = Annotated[str, AfterValidator(_label)]


class Value(BaseModel):
    """An immutable value; ``model_dump_json`` and ``model_validate_json`` round-trip it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")
