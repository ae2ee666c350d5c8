"""A video as the few pictures that are looked at, taken at even times. What a file may cost is bounded.

Pillow reads animated GIF, PNG, WebP and AVIF images; PyAV, where it is installed, MP4, WebM and the like.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import BinaryIO, Final

from PIL import Image, UnidentifiedImageError

from llama4sdk.errors import InvalidRequestError
from llama4sdk.llama4.images.decoding import FORMATS, check_size, to_rgb, video_too_long

__all__ = ["MOST_FRAMES_READ", "MOST_SIDE", "evenly", "read_frames"]

#: Frames are scaled down to so many pixels a side: four tiles, and more than a single one shows.
MOST_SIDE: Final = 1344

READ_WHOLE: Final = ("AVIF", "WEBP")
#: Pillow takes these formats into memory as they are, and so not beyond this size.
MOST_BYTES: Final = 256 * 2**20

MOST_FRAMES_READ: Final = 10_000
#: An animation's frames build on each other: to see the last one, all are decoded, whatever their number.
MOST_PIXELS_READ: Final = 2**30


def read_frames(file: BinaryIO | bytes, count: int) -> Iterator[Image.Image]:
    """At most ``count`` frames as upright RGB, in their order: those shown at the middle of as many equal times.

    Of an animation with no more frames, all of them; a still image is one. Raises InvalidRequestError for what is no
    video, damaged, or too large to be looked through.
    """
    if isinstance(file, bytes):
        file = io.BytesIO(file)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    formats = [name for name in FORMATS if size <= MOST_BYTES or name not in READ_WHOLE]
    try:
        with _reading("animation"), Image.open(file, formats=formats) as image:
            yield from _of_animation(image, count)
    except UnidentifiedImageError:
        from llama4sdk.llama4.images.video_av import frames_of_clip

        file.seek(0)
        with _reading("video"):
            yield from map(_scaled, frames_of_clip(file, count))


def evenly(durations: Sequence[float], count: int) -> list[int]:
    """The frames shown at the middle of ``count`` equal parts of the time that all take; each only once.

    Where no frame takes any time, all take as long.
    """
    if len(durations) <= count:
        return list(range(len(durations)))
    ends = list(accumulate(durations if sum(durations) > 0 else [1.0] * len(durations)))
    times = (ends[-1] * (2 * part + 1) / (2 * count) for part in range(count))
    return sorted({min(bisect_right(ends, time), len(ends) - 1) for time in times})


def _scaled(image: Image.Image) -> Image.Image:
    """At most ``MOST_SIDE`` pixels a side, in the same proportions."""
    image.thumbnail((MOST_SIDE, MOST_SIDE))
    return image


def _of_animation(image: Image.Image, count: int) -> Iterator[Image.Image]:
    check_size(image)
    durations: list[float] = []
    for _ in _frames(image, until=None):
        if len(durations) == MOST_FRAMES_READ or (len(durations) + 1) * image.width * image.height > MOST_PIXELS_READ:
            raise video_too_long(f"It has more than {len(durations)} frames of {image.width}x{image.height} pixels.")
        durations.append(max(0.0, float(image.info.get("duration") or 0)))
    chosen = evenly(durations, count)
    for number in _frames(image, until=chosen[-1]):
        if number in chosen:
            yield _scaled(to_rgb(image))


def _frames(image: Image.Image, *, until: int | None) -> Iterator[int]:
    """Decode one frame after the other; how long it is shown is known only then."""
    number = 0
    while until is None or number <= until:
        try:
            image.seek(number)
        except EOFError:
            return
        image.load()
        yield number
        number += 1


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (InvalidRequestError, UnidentifiedImageError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise video_too_long(str(error)) from error
    except Exception as error:  # decoders raise whatever a damaged file makes them trip over
        raise InvalidRequestError(
            f"The {what} cannot be decoded: {error}.", hint="The file is damaged or truncated; save or send it again."
        ) from error
