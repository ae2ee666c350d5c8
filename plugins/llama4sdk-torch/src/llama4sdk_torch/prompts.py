"""A request as the network takes it: token ids, and the tiles of its images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from llama4sdk.llama4.images.canvas import PATCH, TILES
from llama4sdk.llama4.images.prompt import place_images
from llama4sdk.llama4.images.reading import read_image
from llama4sdk.llama4.images.tiling import cut_tiles
from llama4sdk.messages import ImagePart
from llama4sdk_torch.model import TextModel
from llama4sdk_torch.vision import VisionModel

__all__ = ["Prompt", "Sight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """``pixels``: [tiles, 3, side, side], uint8, of all images in order; ``None`` when there are none."""

    ids: list[int]
    pixels: Tensor | None = None


class Sight:
    """What an engine needs to take in images: the vision network, and the tokens that images are written with."""

    def __init__(self, network: VisionModel, control: Mapping[str, int]) -> None:
        self._network = network
        self._control = control

    def prompt(self, ids: Sequence[int], images: Sequence[ImagePart]) -> Prompt:
        """A rendered conversation with its images in their places. Needs no room on the device.

        Raises InvalidRequestError for images that cannot be fetched or decoded.
        """
        config = self._network.config
        tiles = [cut_tiles(read_image(image), tile=config.tile_size, most=image.max_tiles or TILES) for image in images]
        canvases = [tiled.canvas for tiled in tiles]
        return Prompt(
            ids=place_images(ids, canvases, self._control, patches=config.tokens_per_tile),
            pixels=torch.from_numpy(np.concatenate([tiled.pixels for tiled in tiles])),
        )

    @torch.inference_mode()
    def vectors(self, network: TextModel, tokens: Tensor, pixels: Tensor) -> Tensor:
        """What goes into the text network: embedded ``tokens`` [1, tokens], image features in the patches' places.

        Gives [1, tokens, hidden].
        """
        vectors = network.embed(tokens)
        vectors[tokens == self._control[PATCH]] = self._network.encode(pixels)
        return vectors
