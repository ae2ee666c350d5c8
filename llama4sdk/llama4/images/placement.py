"""Images in their places in a prompt of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from llama4sdk.errors import CheckpointError, InvalidRequestError
from llama4sdk.llama4.images.canvas import IMAGE, Canvas, image_tokens

__all__ = ["place_images"]


def place_images(
    ids: Sequence[int], canvases: Sequence[Canvas], control: Mapping[str, int], *, patches: int
) -> list[int]:
    """Put the tokens of each image where the chat template left one ``<|image|>``, in order.

    ``control`` are the tokenizer's control tokens; ``patches`` is the number of features of a tile. Raises
    InvalidRequestError when the template shows more or fewer images than there are, CheckpointError when the
    tokenizer knows no image tokens.
    """
    shown = list(ids).count(control.get(IMAGE, -1))
    if shown != len(canvases):
        raise InvalidRequestError(
            f"The model's chat template shows {shown} of {len(canvases)} images.", hint="Put images into user messages."
        )
    left = iter(canvases)
    return [
        token
        for number in ids
        for token in (_written(next(left), control, patches) if number == control[IMAGE] else (number,))
    ]


def _written(canvas: Canvas, control: Mapping[str, int], patches: int) -> Iterator[int]:
    try:
        yield from [control[name] for name in image_tokens(canvas, patches)]
    except KeyError as error:
        raise CheckpointError(f"The tokenizer has no control token {error}, which images are written with.") from error
