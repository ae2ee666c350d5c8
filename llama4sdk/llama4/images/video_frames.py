"""The image parts that a video is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from llama4sdk.errors import ConfigurationError, InvalidRequestError
from llama4sdk.llama4.images.canvas import TILES
from llama4sdk.messages import Frame, ImagePart, MaxTiles

__all__ = ["frame_parts", "sampled_parts", "too_long"]

MOST_BYTES: Final = 256 * 2**20
"""Of all frames together, encoded."""


def frame_parts(frames: Iterable[Frame], max_tiles: MaxTiles, *, most: int) -> tuple[ImagePart, ...]:
    """Each picture as an image part; see ``VideoPart.from_frames``."""
    if max_tiles is not None and not 1 <= max_tiles <= TILES:
        raise InvalidRequestError(f"max_tiles is {max_tiles}.", hint=f"A frame takes 1 to {TILES} tiles.")
    parts: list[ImagePart] = []
    size = 0
    for frame in frames:
        if len(parts) == most:
            raise too_long(f"It has more than {most} frames.")
        parts.append(_part(frame, max_tiles))
        size += len(parts[-1].data or b"")
        if size > MOST_BYTES:
            raise too_long(f"{len(parts)} frames have more than {MOST_BYTES} bytes.")
    if not parts:
        raise InvalidRequestError("The video has no frames.", hint="Give at least one picture.")
    return tuple(parts)


def sampled_parts(file: BinaryIO | bytes, count: int, max_tiles: MaxTiles, *, most: int) -> tuple[ImagePart, ...]:
    """At most ``count`` frames of a file as image parts; see ``VideoPart.from_path``."""
    if not 1 <= count <= most:
        raise InvalidRequestError(f"frames is {count}.", hint=f"Take 1 to {most} frames of a video.")
    with _pillow():
        from llama4sdk.llama4.images.video import read_frames

    return frame_parts(read_frames(file, count), max_tiles, most=most)


def too_long(what: str) -> InvalidRequestError:
    """The error for what would take too long to be looked through, or too much memory."""
    return InvalidRequestError(
        f"The video is too long or too large. {what}",
        hint="Shorten it or scale it down, or take fewer frames; VideoPart.from_frames takes those of your choice.",
    )


def _part(frame: Frame, max_tiles: MaxTiles) -> ImagePart:
    match frame:
        case ImagePart():
            return frame.model_copy(update={"max_tiles": max_tiles})
        case bytes():
            return ImagePart(data=frame, max_tiles=max_tiles)
        case str() | Path():
            return ImagePart.from_path(frame, max_tiles=max_tiles)
    with _pillow():
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
def _pillow() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(
            f"Videos are taken apart by pillow and numpy, of which {error.name} is not here.",
            hint="Run \"pip install 'llama4sdk[local]'\".",
        ) from error
