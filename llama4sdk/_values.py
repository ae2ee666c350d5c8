"""The base of all public data: frozen, keyword-only, and closed to unknown fields."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Value"]


class Value(BaseModel):
    """An immutable value; ``model_dump_json`` and ``model_validate_json`` round-trip it."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")
