"""What a conversation is made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import Field, JsonValue, model_validator

from llama4sdk._values import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

__all__ = ["ImagePart", "Message", "Part", "Role", "TextPart", "ToolCall"]

Role: TypeAlias = Literal["system", "user", "assistant", "tool"]


class TextPart(Value):
    """A piece of text inside a message."""

    type: Literal["text"] = "text"
    text: str


class ImagePart(Value):
    """An image inside a message: its encoded bytes (PNG, JPEG, …), or where they are."""

    type: Literal["image"] = "image"
    data: bytes | None = Field(default=None, repr=False)
    url: str | None = None
    media_type: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> ImagePart:
        if (self.data is None) == (self.url is None):
            raise ValueError("an image has either data or a url")
        return self

    @classmethod
    def from_path(cls, path: str | Path) -> ImagePart:
        """Read an image file whole. Raises OSError when it cannot be read."""
        return cls(data=Path(path).read_bytes())

    @classmethod
    def from_pil(cls, image: Image.Image) -> ImagePart:
        """Keep a Pillow image as a PNG: upright 8-bit RGB, transparency on white.

        Raises InvalidRequestError for float pixels and for an image too large to decode again.
        """
        from llama4sdk.llama4.images.decoding import encode, to_rgb

        return cls(data=encode(to_rgb(image)), media_type="image/png")

    @classmethod
    def from_array(cls, array: npt.NDArray[np.generic]) -> ImagePart:
        """Keep an array as a PNG: [height, width], or with 1, 3 or 4 channels last; needs pillow.

        Values are uint8, uint16, bool, or floats from 0 to 1. Raises InvalidRequestError for anything else.
        """
        from llama4sdk.llama4.images.decoding import encode, from_array

        return cls(data=encode(from_array(array)), media_type="image/png")


Part: TypeAlias = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ToolCall(Value):
    """A call the model asks for. ``arguments`` is the model's own JSON text, valid or not."""

    id: str
    name: str
    arguments: str

    def parsed(self) -> dict[str, JsonValue]:
        """The arguments as a dict. Raises ValueError when the model wrote no JSON object."""
        value = json.loads(self.arguments)
        if not isinstance(value, dict):
            raise ValueError(f"the arguments of tool call '{self.name}' are no JSON object: {self.arguments[:80]!r}")
        return value


class Message(Value):
    """One turn. ``content`` is text, or parts in reading order."""

    role: Role
    content: str | tuple[Part, ...] = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Message:
        if self.role in ("system", "user") and not self.content:
            raise ValueError(f"a {self.role} message has no content")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"only an assistant message can carry tool calls, not a {self.role} message")
        return self

    @property
    def parts(self) -> tuple[TextPart | ImagePart, ...]:
        """The content as parts, whichever way it was given."""
        return (TextPart(text=self.content),) if isinstance(self.content, str) else self.content

    @property
    def text(self) -> str:
        """The text of all text parts, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def has_images(self) -> bool:
        """Whether any part is an image."""
        return not isinstance(self.content, str) and any(isinstance(part, ImagePart) for part in self.content)
