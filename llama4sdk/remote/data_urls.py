"""Image formats by their first bytes, and images as ``data:`` URLs. Pure."""

from __future__ import annotations

import base64

from llama4sdk.errors import InvalidRequestError
from llama4sdk.messages import ImagePart


def image_format(data: bytes) -> str | None:
    """Return ``png``, ``jpeg``, ``gif`` or ``webp`` by the first bytes, else ``None``."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def data_url(part: ImagePart) -> str:
    """Return an image's bytes as a ``data:`` URL. Raises InvalidRequestError where its format is not known."""
    data = part.data or b""
    kind = image_format(data)
    media_type = part.media_type or (f"image/{kind}" if kind else None)
    if media_type is None:
        raise InvalidRequestError(
            "An image is neither PNG, JPEG, GIF nor WebP.", hint="Convert it, or say what it is with media_type=."
        )
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
