"""Cut an image into the square tiles that the vision network takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from llama4sdk.llama4.images.canvas import MAX_TILES, TILE_PIXELS, Canvas, choose_canvas


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """``pixels`` is [tiles, 3, side, side], RGB from 0 to 255: the grid row by row, then the whole image as one."""

    canvas: Canvas
    pixels: npt.NDArray[np.uint8]


def cut_tiles(image: Image.Image, *, tile: int = TILE_PIXELS, max_tiles: int = MAX_TILES) -> Tiles:
    """Scale an RGB image to its canvas, padded with black to the right and below, and cut it into tiles.

    Of several tiles the last one is the whole image, stretched to a square as in training.
    """
    canvas = choose_canvas(image.height, image.width, tile=tile, max_tiles=max_tiles)
    padded = Image.new("RGB", (canvas.columns * tile, canvas.rows * tile))
    padded.paste(image.resize((canvas.width, canvas.height), Image.Resampling.BILINEAR))
    grid = np.asarray(padded).reshape(canvas.rows, tile, canvas.columns, tile, 3)
    pixels = grid.transpose(0, 2, 4, 1, 3).reshape(-1, 3, tile, tile)
    if len(pixels) > 1:
        square = np.asarray(image.resize((tile, tile), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        pixels = np.concatenate([pixels, square[np.newaxis]])
    return Tiles(canvas=canvas, pixels=np.ascontiguousarray(pixels))
