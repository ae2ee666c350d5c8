"""The canvas of tiles an image is laid on, and the tokens that stand for it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

__all__ = ["IMAGE", "PATCH", "TILE", "TILES", "Canvas", "choose_canvas", "image_tokens"]

#: Side of a tile in pixels, in every published Llama 4.
TILE: Final = 336

#: At most so many tiles, not counting the one that shows the whole image.
TILES: Final = 16

START: Final = "<|image_start|>"
END: Final = "<|image_end|>"
IMAGE: Final = "<|image|>"
PATCH: Final = "<|patch|>"
NEXT_COLUMN: Final = "<|tile_x_separator|>"
NEXT_ROW: Final = "<|tile_y_separator|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """A grid of tiles; ``height`` and ``width`` are the pixels of it that the image takes, from the upper left."""

    rows: int
    columns: int
    height: int
    width: int

    @property
    def tiles(self) -> int:
        """How many tiles are looked at: those of the grid, and a last one of the whole image if there are several."""
        grid = self.rows * self.columns
        return grid if grid == 1 else grid + 1


def choose_canvas(height: int, width: int, *, tile: int = TILE, most: int = TILES) -> Canvas:
    """Meta's rule: enlarge as little as possible if the image fits as it is, else shrink as little as possible.

    Of canvases that scale alike the smallest is taken. An image smaller than a tile grows to one, a larger one never
    grows. Sizes are pixels.
    """
    grids = [(rows, columns) for rows in range(1, most + 1) for columns in range(1, most // rows + 1)]

    def preference(grid: tuple[int, int]) -> tuple[bool, float, int]:
        rows, columns = grid
        scale = min(columns * tile / width, rows * tile / height)
        return scale < 1, abs(scale) if scale >= 1 else -scale, rows * columns

    rows, columns = min(grids, key=preference)
    return Canvas(
        rows=rows,
        columns=columns,
        **_fitted(
            height,
            width,
            most_height=min(max(height, tile), rows * tile),
            most_width=min(max(width, tile), columns * tile),
        ),
    )


def _fitted(height: int, width: int, *, most_height: int, most_width: int) -> dict[str, int]:
    """The largest size of these proportions; the side that does not limit is rounded down."""
    across, down = most_width / width, most_height / height
    if across < down:
        return {"height": max(1, min(math.floor(height * across), most_height)), "width": most_width}
    return {"height": most_height, "width": max(1, min(math.floor(width * down), most_width))}


def image_tokens(canvas: Canvas, patches: int) -> tuple[str, ...]:
    """The control tokens an image is written as, with ``patches`` of them (144) for the content of each tile.

    A single tile takes ``patches + 3`` tokens, n of them n * (patches + 1) more.
    """
    tile = (PATCH,) * patches
    row = (*tile, *(NEXT_COLUMN, *tile) * (canvas.columns - 1), NEXT_ROW)
    grid = row * canvas.rows if canvas.tiles > 1 else ()
    return (START, *grid, IMAGE, *tile, END)
