"""The grid of tiles that an image is scaled to, and its tokens in a prompt. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from llama4sdk.errors import CheckpointError, InvalidRequestError

#: Side of a tile in pixels, in every published Llama 4.
TILE_PIXELS: Final = 336

#: Tiles of one image, without the one that shows the whole image.
MAX_TILES: Final = 16

START: Final = "<|image_start|>"
END: Final = "<|image_end|>"
IMAGE: Final = "<|image|>"
PATCH: Final = "<|patch|>"
NEXT_COLUMN: Final = "<|tile_x_separator|>"
NEXT_ROW: Final = "<|tile_y_separator|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A grid of tiles, of which the image covers ``height`` x ``width`` pixels from the upper left."""

    rows: int
    columns: int
    height: int
    width: int

    @property
    def tiles(self) -> int:
        """Number of tiles: those of the grid, and one of the whole image if the grid has several."""
        grid = self.rows * self.columns
        return grid if grid == 1 else grid + 1


def choose_canvas(height: int, width: int, *, tile: int = TILE_PIXELS, max_tiles: int = MAX_TILES) -> Canvas:
    """Choose the grid by Meta's rule: the one that enlarges an image least or, if none can hold it, shrinks it least.

    Of grids with the same scale the smallest is taken. An image smaller than a tile is enlarged to one, a larger one is
    never enlarged. Sizes are pixels.
    """
    grids = [(rows, columns) for rows in range(1, max_tiles + 1) for columns in range(1, max_tiles // rows + 1)]

    def preference(grid: tuple[int, int]) -> tuple[bool, float, int]:
        rows, columns = grid
        scale = min(columns * tile / width, rows * tile / height)
        return scale < 1, scale if scale >= 1 else -scale, rows * columns

    rows, columns = min(grids, key=preference)
    # The largest size of the same proportions within limits; the side that is not limited is rounded down.
    new_height, new_width = min(max(height, tile), rows * tile), min(max(width, tile), columns * tile)
    x_scale, y_scale = new_width / width, new_height / height
    if x_scale < y_scale:
        new_height = max(1, min(math.floor(height * x_scale), new_height))
    else:
        new_width = max(1, min(math.floor(width * y_scale), new_width))
    return Canvas(rows=rows, columns=columns, height=new_height, width=new_width)


def image_tokens(canvas: Canvas, patches: int) -> tuple[str, ...]:
    """Control tokens of an image in a prompt, with ``patches`` patch tokens (144) for each tile.

    A single tile takes ``patches + 3`` tokens, a grid of n tiles n * (patches + 1) more.
    """
    tile = (PATCH,) * patches
    row = (*tile, *(NEXT_COLUMN, *tile) * (canvas.columns - 1), NEXT_ROW)
    grid = row * canvas.rows if canvas.tiles > 1 else ()
    return (START, *grid, IMAGE, *tile, END)


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
