"""What a conversation is made of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypeAlias, Union

from pydantic import Field, JsonValue, model_validator

from llama4sdk._values import Value

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

__all__ = ["Frame", "ImagePart", "Message", "Part", "Role", "TextPart", "ToolCall", "VideoPart"]

MaxTiles: TypeAlias = Annotated[int, Field(ge=1, le=16)] | None
"""``None`` stands for the model's own limit, 16."""

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
    max_tiles: MaxTiles = None
    """Look at it in at most so many tiles of 336 x 336 pixels: fewer cost fewer tokens, and show less. A backend that
    leaves tiles to a server leaves this to it, too."""

    @model_validator(mode="after")
    def _one_source(self) -> ImagePart:
        if (self.data is None) == (self.url is None):
            raise ValueError("an image has either data or a url")
        return self

    @classmethod
    def from_path(cls, path: str | Path, *, max_tiles: MaxTiles = None) -> ImagePart:
        """Read an image file whole. Raises OSError when it cannot be read."""
        return cls(data=Path(path).read_bytes(), max_tiles=max_tiles)

    @classmethod
    def from_pil(cls, image: Image.Image, *, max_tiles: MaxTiles = None) -> ImagePart:
        """Keep a Pillow image as a PNG: upright 8-bit RGB, transparency on white.

        Raises InvalidRequestError for float pixels and for an image too large to decode again.
        """
        from llama4sdk.llama4.images.decoding import encode, to_rgb

        return cls(data=encode(to_rgb(image)), media_type="image/png", max_tiles=max_tiles)

    @classmethod
    def from_array(cls, array: npt.NDArray[np.generic], *, max_tiles: MaxTiles = None) -> ImagePart:
        """Keep an array as a PNG: [height, width], or with 1, 3 or 4 channels last; needs pillow.

        Values are uint8, uint16, bool, or floats from 0 to 1. Raises InvalidRequestError for anything else.
        """
        from llama4sdk.llama4.images.decoding import encode, from_array

        return cls(data=encode(from_array(array)), media_type="image/png", max_tiles=max_tiles)


Frame: TypeAlias = Union[ImagePart, "Image.Image", "npt.NDArray[np.generic]", bytes, str, Path]
"""One picture of a video: an image part, a Pillow image, an array, a file's bytes or its path."""

MOST_FRAMES: Final = 256


class VideoPart(Value):
    """A video inside a message: pictures taken from it, in their order.

    Llama 4 has no input for video. It sees each frame as an image; in one tile, as is the default here, for 147 tokens.
    """

    type: Literal["video"] = "video"
    frames: Annotated[tuple[ImagePart, ...], Field(min_length=1, max_length=MOST_FRAMES)]

    @classmethod
    def from_frames(cls, frames: Iterable[Frame], *, max_tiles: MaxTiles = 1) -> VideoPart:
        """All of these pictures, at most 256; an array of [frames, height, width, 3] is as many.

        ``max_tiles`` is what each is looked at in, image parts included. Raises InvalidRequestError for what is no
        picture and for too few or too many, OSError when a file cannot be read.
        """
        from llama4sdk.llama4.images.video_frames import frame_parts

        return cls(frames=frame_parts(frames, max_tiles, most=MOST_FRAMES))

    @classmethod
    def from_path(cls, path: str | Path, *, frames: int = 8, max_tiles: MaxTiles = 1) -> VideoPart:
        """At most so many frames of a file, at even times; each of at most 1344 pixels a side.

        Animated GIF, PNG, WebP and AVIF images are read by pillow, MP4, WebM and the like by PyAV
        (``pip install 'llama4sdk[video]'``). Raises InvalidRequestError for what is no video, damaged or too long,
        OSError when it cannot be read.
        """
        from llama4sdk.llama4.images.video_frames import sampled_parts

        with Path(path).open("rb") as file:
            return cls(frames=sampled_parts(file, frames, max_tiles, most=MOST_FRAMES))

    @classmethod
    def from_bytes(cls, data: bytes, *, frames: int = 8, max_tiles: MaxTiles = 1) -> VideoPart:
        """The same of a file's bytes."""
        from llama4sdk.llama4.images.video_frames import sampled_parts

        return cls(frames=sampled_parts(data, frames, max_tiles, most=MOST_FRAMES))


Part: TypeAlias = Annotated[TextPart | ImagePart | VideoPart, Field(discriminator="type")]


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
        """The content as parts, whichever way it was given; a video is its frames."""
        if isinstance(self.content, str):
            return (TextPart(text=self.content),)
        return tuple(one for part in self.content for one in (part.frames if isinstance(part, VideoPart) else (part,)))

    @property
    def text(self) -> str:
        """The text of all text parts, joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def has_images(self) -> bool:
        """Whether any part is an image or a video."""
        return not isinstance(self.content, str) and any(not isinstance(part, TextPart) for part in self.content)
