"""Images as bytes that travel: what their first bytes say they are, and how an address holds them. Pure."""

from __future__ import annotations

import base64

from llama4sdk.messages import ImagePart

__all__ = ["data_url", "image_format"]


def image_format(data: bytes) -> str | None:
    """By its first bytes: ``png``, ``jpeg``, ``gif`` or ``webp``."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def data_url(part: ImagePart) -> str | None:
    """An image's bytes as a ``data:`` address; ``None`` where nobody says what kind of image they are."""
    data = part.data or b""
    kind = image_format(data)
    media = part.media_type or (f"image/{kind}" if kind else None)
    return media and f"data:{media};base64,{base64.b64encode(data).decode('ascii')}"
