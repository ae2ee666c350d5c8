"""The picture a message's image part stands for."""

from __future__ import annotations

from PIL import Image

from llama4sdk import settings
from llama4sdk.errors import InvalidRequestError
from llama4sdk.llama4.images.decoding import decode
from llama4sdk.llama4.images.fetching import fetch
from llama4sdk.messages import ImagePart

__all__ = ["read_image"]


def read_image(part: ImagePart) -> Image.Image:
    """The image as upright RGB, fetched first where the part has a URL.

    Raises InvalidRequestError for what cannot be fetched or decoded. Only public https addresses are fetched from,
    unless ``LLAMA4SDK_PRIVATE_IMAGE_URLS`` allows others.
    """
    if part.data is not None:
        return decode(part.data)
    if part.url is None:
        raise InvalidRequestError("An image has neither data nor a url.", hint="Use ImagePart.from_path.")
    return decode(fetch(part.url, allow_private=settings.private_image_urls()))
