"""Expand the image tokens of a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llama4sdk.errors import CheckpointError, InvalidRequestError
from llama4sdk.llama4.images.canvas import IMAGE, Canvas, image_tokens


def place_images(
    ids: Sequence[int], canvases: Sequence[Canvas], control: Mapping[str, int], *, patches: int
) -> list[int]:
    """Replace each ``<|image|>`` that the chat template wrote by the tokens of an image, in order.

    ``control`` maps control tokens to their ids; ``patches`` is the number of features of a tile. Raises
    InvalidRequestError when the numbers of ``<|image|>`` and of images differ, CheckpointError when the tokenizer has
    no image tokens.
    """
    count = list(ids).count(control.get(IMAGE, -1))
    if count != len(canvases):
        raise InvalidRequestError(
            f"The model's chat template shows {count} of {len(canvases)} images.", hint="Put images into user messages."
        )
    remaining = iter(canvases)
    return [
        token
        for token_id in ids
        for token in (_image_ids(next(remaining), control, patches) if token_id == control[IMAGE] else (token_id,))
    ]


def _image_ids(canvas: Canvas, control: Mapping[str, int], patches: int) -> Iterator[int]:
    try:
        yield from [control[name] for name in image_tokens(canvas, patches)]
    except KeyError as error:
        raise CheckpointError(f"The tokenizer has no control token {error}, which images are written with.") from error
