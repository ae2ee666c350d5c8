"""Sample frames of a video at even times, within limits of memory and work.

Pillow reads animated GIF, PNG, WebP and AVIF images; PyAV, where it is installed, MP4, WebM and the like.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice
from typing import BinaryIO, Final

from PIL import Image, ImageSequence, UnidentifiedImageError

from llama4sdk.llama4.images.decoding import FORMATS, check_size, decoding_errors, to_rgb, video_too_long

#: Frames are scaled down to this many pixels a side: four tiles, more than a single tile shows.
MAX_SIDE: Final = 1344

#: Formats that Pillow reads into memory as a whole, which limits their size.
WHOLE_FILE_FORMATS: Final = ("AVIF", "WEBP")
MAX_WHOLE_FILE_BYTES: Final = 256 * 2**20

#: Limits of an animation: its frames build on each other, so that all before the last one taken are decoded.
MAX_FRAMES_READ: Final = 10_000
MAX_PIXELS_READ: Final = 2**30


def read_frames(file: BinaryIO | bytes, count: int) -> Iterator[Image.Image]:
    """Yield at most ``count`` frames as upright RGB: those shown in the middle of ``count`` equal parts of the time.

    A shorter animation gives all its frames, a still image itself. Raises InvalidRequestError for a file that is no
    video, damaged, or too large.
    """
    if isinstance(file, bytes):
        file = io.BytesIO(file)
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    formats = [name for name in FORMATS if size <= MAX_WHOLE_FILE_BYTES or name not in WHOLE_FILE_FORMATS]
    try:
        with decoding_errors("animation", video_too_long), Image.open(file, formats=formats) as image:
            yield from _animation_frames(image, count)
    except UnidentifiedImageError:
        from llama4sdk.llama4.images.video_av import clip_frames

        file.seek(0)
        with decoding_errors("video", video_too_long):
            yield from map(_scale_down, clip_frames(file, count))


def even_frames(durations: Sequence[float], count: int) -> list[int]:
    """Indices of the frames shown in the middle of ``count`` equal parts of the whole duration, each only once.

    If all durations are 0, they count as equal.
    """
    if len(durations) <= count:
        return list(range(len(durations)))
    ends = list(accumulate(durations if sum(durations) > 0 else [1.0] * len(durations)))
    times = (ends[-1] * (2 * part + 1) / (2 * count) for part in range(count))
    return sorted({min(bisect_right(ends, time), len(ends) - 1) for time in times})


def _scale_down(image: Image.Image) -> Image.Image:
    """Scale down to at most ``MAX_SIDE`` pixels a side, keeping the proportions."""
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image


def _animation_frames(image: Image.Image, count: int) -> Iterator[Image.Image]:
    check_size(image)
    durations: list[float] = []
    for frame in ImageSequence.Iterator(image):
        frame.load()  # its duration is known only then
        if len(durations) == MAX_FRAMES_READ or (len(durations) + 1) * image.width * image.height > MAX_PIXELS_READ:
            raise video_too_long(f"It has more than {len(durations)} frames of {image.width}x{image.height} pixels.")
        durations.append(max(0.0, float(frame.info.get("duration") or 0)))
    chosen = even_frames(durations, count)
    for number, frame in enumerate(islice(ImageSequence.Iterator(image), chosen[-1] + 1)):
        frame.load()  # the next frames may build on it
        if number in chosen:
            yield _scale_down(to_rgb(frame))
