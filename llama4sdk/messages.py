"""The messages of a conversation: text, images, videos and tool calls."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Final, Literal, TypeAlias, Union

from pydantic import Field, JsonValue, model_validator

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError, InvalidRequestError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL import Image

__all__ = ["Frame", "ImagePart", "Message", "Part", "Role", "TextPart", "ToolCall", "VideoPart"]

MAX_TILES: Final = 16
MAX_VIDEO_FRAMES: Final = 256
#: Encoded bytes of all frames of a video together.
MAX_VIDEO_BYTES: Final = 256 * 2**20

#: Tiles of 336 x 336 pixels that an image is cut into at most; ``None`` stands for the model's own limit, 16.
MaxTiles: TypeAlias = Annotated[int, Field(ge=1, le=MAX_TILES)] | None

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
    #: Fewer tiles cost fewer tokens and show less detail. Backends whose server cuts the tiles ignore it.
    max_tiles: MaxTiles = None

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
        """Encode a Pillow image as PNG: upright 8-bit RGB, transparency on white.

        Raises InvalidRequestError for float pixels and for an image too large to decode again.
        """
        from llama4sdk.llama4.images.decoding import encode, to_rgb

        return cls(data=encode(to_rgb(image)), media_type="image/png", max_tiles=max_tiles)

    @classmethod
    def from_array(cls, array: npt.NDArray[np.generic], *, max_tiles: MaxTiles = None) -> ImagePart:
        """Encode an array as PNG: [height, width], or with 1, 3 or 4 channels last; needs pillow.

        Values are uint8, uint16, bool, or floats from 0 to 1. Raises InvalidRequestError for anything else.
        """
        from llama4sdk.llama4.images.decoding import encode, from_array

        return cls(data=encode(from_array(array)), media_type="image/png", max_tiles=max_tiles)


#: A picture of a video: an image part, a Pillow image, an array, a file's bytes or its path.
Frame: TypeAlias = Union[ImagePart, "Image.Image", "npt.NDArray[np.generic]", bytes, str, Path]


class VideoPart(Value):
    """A video inside a message: pictures taken from it, in their order.

    Llama 4 has no input for video. It reads each frame as an image; in a single tile, the default here, that is 147
    tokens.
    """

    type: Literal["video"] = "video"
    frames: Annotated[tuple[ImagePart, ...], Field(min_length=1, max_length=MAX_VIDEO_FRAMES)]

    @classmethod
    def from_frames(cls, frames: Iterable[Frame], *, max_tiles: MaxTiles = 1) -> VideoPart:
        """Make a video of 1 to 256 pictures; an array of [frames, height, width, 3] is as many.

        ``max_tiles`` holds for every frame, image parts included. Raises InvalidRequestError for anything that is no
        picture and for too few or too many, OSError when a file cannot be read.
        """
        if max_tiles is not None and not 1 <= max_tiles <= MAX_TILES:
            raise InvalidRequestError(f"max_tiles is {max_tiles}.", hint=f"A frame takes 1 to {MAX_TILES} tiles.")
        parts: list[ImagePart] = []
        size = 0
        for frame in frames:
            if len(parts) == MAX_VIDEO_FRAMES:
                raise _video_too_large(f"more than {MAX_VIDEO_FRAMES} frames")
            parts.append(_image_part(frame, max_tiles))
            size += len(parts[-1].data or b"")
            if size > MAX_VIDEO_BYTES:
                raise _video_too_large(f"more than {MAX_VIDEO_BYTES} bytes in {len(parts)} frames")
        if not parts:
            raise InvalidRequestError("The video has no frames.", hint="Give at least one picture.")
        return cls(frames=tuple(parts))

    @classmethod
    def from_path(cls, path: str | Path, *, frames: int = 8, max_tiles: MaxTiles = 1) -> VideoPart:
        """Take at most ``frames`` frames of a file, at even times, scaled to at most 1344 pixels a side.

        Animated GIF, PNG, WebP and AVIF images are read by pillow, MP4, WebM and the like by PyAV
        (``pip install 'llama4sdk[video]'``). Raises InvalidRequestError for a file that is no video, damaged or too
        long, OSError when it cannot be read.
        """
        with Path(path).open("rb") as file:
            return cls._sample(file, frames, max_tiles)

    @classmethod
    def from_bytes(cls, data: bytes, *, frames: int = 8, max_tiles: MaxTiles = 1) -> VideoPart:
        """Do the same with the content of a file."""
        return cls._sample(data, frames, max_tiles)

    @classmethod
    def _sample(cls, file: BinaryIO | bytes, count: int, max_tiles: MaxTiles) -> VideoPart:
        if not 1 <= count <= MAX_VIDEO_FRAMES:
            raise InvalidRequestError(f"frames is {count}.", hint=f"Take 1 to {MAX_VIDEO_FRAMES} frames of a video.")
        with _explain_missing_pillow():
            from llama4sdk.llama4.images.video import read_frames

        return cls.from_frames(read_frames(file, count), max_tiles=max_tiles)


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
        frames = (part.frames if isinstance(part, VideoPart) else (part,) for part in self.content)
        return tuple(chain.from_iterable(frames))

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


def _image_part(frame: Frame, max_tiles: MaxTiles) -> ImagePart:
    match frame:
        case ImagePart():
            return frame.model_copy(update={"max_tiles": max_tiles})
        case bytes():
            return ImagePart(data=frame, max_tiles=max_tiles)
        case str() | Path():
            return ImagePart.from_path(frame, max_tiles=max_tiles)
    with _explain_missing_pillow():
        import numpy as np
        from PIL import Image
    if isinstance(frame, np.ndarray):
        return ImagePart.from_array(frame, max_tiles=max_tiles)
    if isinstance(frame, Image.Image):
        return ImagePart.from_pil(frame, max_tiles=max_tiles)
    raise InvalidRequestError(
        f"A frame of type {type(frame).__name__} is no picture.",
        hint="Give image parts, Pillow images, arrays, bytes or paths.",
    )


@contextmanager
def _explain_missing_pillow() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"Videos are taken apart by pillow and numpy, of which {error.name} is not here.",
            hint="Run \"pip install 'llama4sdk[local]'\".",
        ) from error


def _video_too_large(excess: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The video is too long or too large: {excess}.", hint="Take fewer frames, or scale them down."
    )
