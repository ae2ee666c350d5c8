"""Convert encoded images, arrays and Pillow images to upright RGB."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from llama4sdk.errors import InvalidRequestError

#: Formats that are decoded. Pillow has others, some of which run external programs.
FORMATS: Final = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")

#: A larger image is refused: a file of a few bytes can claim any size, and would be given the memory for it.
MAX_PIXELS: Final = 89_478_485

_WHITE: Final = (255, 255, 255, 255)


def decode(data: bytes) -> Image.Image:
    """Decode an image file as upright RGB, transparency on white; of an animation the first frame.

    Raises InvalidRequestError for data that is no image, damaged, truncated or too large.
    """
    try:
        with decoding_errors("image", _too_large):
            return to_rgb(Image.open(io.BytesIO(data), formats=FORMATS))
    except UnidentifiedImageError as error:
        raise InvalidRequestError(
            f"The {len(data)} bytes given as an image are none.", hint=f"Known formats: {', '.join(FORMATS)}."
        ) from error


@contextmanager
def decoding_errors(kind: str, too_large: Callable[[str], InvalidRequestError]) -> Iterator[None]:
    """Raise decoders' errors as InvalidRequestError, but for UnidentifiedImageError: the file is of no known format."""
    try:
        yield
    except (InvalidRequestError, UnidentifiedImageError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise too_large(str(error)) from error
    except Exception as error:  # decoders raise errors of any type for damaged files
        raise InvalidRequestError(
            f"The {kind} cannot be decoded: {error}.", hint="The file is damaged or truncated; save or send it again."
        ) from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit RGB: rotated by its EXIF data, 16 bits scaled down, transparency on white.

    Raises InvalidRequestError for pixels whose range is unknown (Pillow's mode F), and for an image too large.
    """
    check_size(image)
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise InvalidRequestError("The image has float pixels of unknown range.", hint="Convert it to 8-bit RGB first.")
    if image.mode.startswith("I"):
        image = Image.fromarray(_from_16_bit(np.asarray(image)))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, _WHITE), image.convert("RGBA"))
    return image.convert("RGB")


def check_size(image: Image.Image) -> None:
    """Raise InvalidRequestError for an image that is empty or has more than ``MAX_PIXELS``. Decodes nothing."""
    width, height = image.size
    if not width or not height:
        raise InvalidRequestError("The image has no pixels.", hint="Give an image of at least 1x1 pixels.")
    if width * height > MAX_PIXELS:
        raise _too_large(f"It is {width}x{height} pixels.")


def from_array(array: npt.NDArray[np.generic]) -> Image.Image:
    """Make an RGB image of an array [height, width], or with 1, 3 or 4 channels last (grey, RGB, RGBA).

    Values are uint8, uint16, bool, or floats from 0 to 1. Raises InvalidRequestError for anything else.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))) or not array.size:
        raise InvalidRequestError(
            f"An array of shape {array.shape} is no image.", hint="Give [height, width] or [height, width, 3 or 4]."
        )
    return to_rgb(Image.fromarray(np.ascontiguousarray(_as_bytes(array))))


def encode(image: Image.Image) -> bytes:
    """Encode an RGB image as PNG, without loss."""
    file = io.BytesIO()
    image.save(file, format="PNG")
    return file.getvalue()


def video_too_long(reason: str) -> InvalidRequestError:
    """The error for a video that would take too much time or memory to decode."""
    return InvalidRequestError(
        f"The video is too long or too large. {reason}",
        hint="Shorten it or scale it down, or take fewer frames; VideoPart.from_frames takes those of your choice.",
    )


def _as_bytes(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array.astype(np.uint8, copy=False)
    if array.dtype == np.uint16:
        return _from_16_bit(array)
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "f":
        values = array.astype(np.float64)
        if np.all((values >= 0) & (values <= 1)):
            return np.rint(values * 255).astype(np.uint8)
    raise InvalidRequestError(
        f"An array of {array.dtype} with these values is no image.", hint="Give uint8, uint16, or floats from 0 to 1."
    )


def _from_16_bit(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    return ((np.clip(values.astype(np.int64), 0, 65535) + 128) // 257).astype(np.uint8)


def _too_large(reason: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"The image is too large to decode. {reason}", hint=f"Scale it down to at most {MAX_PIXELS} pixels."
    )
