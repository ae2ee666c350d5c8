"""Images as Bedrock takes them: four formats, of bounded size, never by URL. Pure."""

from __future__ import annotations

import base64
import struct
from typing import Final

from pydantic import JsonValue

from llama4sdk.errors import InvalidRequestError
from llama4sdk.messages import ImagePart
from llama4sdk.remote.chat_messages import image_format

MAX_IMAGE_BYTES: Final = int(3.75 * 2**20)
MAX_SIDE_PIXELS: Final = 8000
#: In one message.
MAX_IMAGES: Final = 20


def image_block(part: ImagePart) -> dict[str, JsonValue]:
    """Return an image as a content block. Raises InvalidRequestError for what Bedrock would refuse."""
    if part.data is None:
        raise InvalidRequestError(
            "Bedrock takes images as bytes only, and this one has a url.",
            hint="Fetch it yourself, for example with llama4sdk.llama4.images.fetching.fetch, and pass data=.",
        )
    kind = image_format(part.data)
    if kind is None:
        raise InvalidRequestError(
            "Bedrock takes images in PNG, JPEG, GIF and WebP, and this one is none of these.",
            hint="Convert it: ImagePart.from_pil keeps a Pillow image as a PNG.",
        )
    if len(part.data) > MAX_IMAGE_BYTES:
        raise InvalidRequestError(
            f"An image has {len(part.data)} bytes; Bedrock takes {MAX_IMAGE_BYTES}.", hint="Make it smaller, or a JPEG."
        )
    size = _size_in_pixels(part.data, kind)
    if size and max(size) > MAX_SIDE_PIXELS:
        raise InvalidRequestError(
            f"An image has {size[0]} x {size[1]} pixels; Bedrock takes {MAX_SIDE_PIXELS} a side.",
            hint="Make it smaller.",
        )
    return {"image": {"format": kind, "source": {"bytes": base64.b64encode(part.data).decode("ascii")}}}


def _size_in_pixels(data: bytes, kind: str) -> tuple[int, int] | None:
    """Return width and height, where the header is complete."""
    try:
        if kind == "png":
            return struct.unpack(">II", data[16:24])
        if kind == "gif":
            return struct.unpack("<HH", data[6:10])
        return _jpeg_size(data) if kind == "jpeg" else _webp_size(data)
    except (struct.error, IndexError):
        return None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    offset = 2
    while data[offset] == 0xFF:
        marker, length = struct.unpack(">BH", data[offset + 1 : offset + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[offset + 5 : offset + 9])
            return width, height
        offset += 2 + length
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF
