"""What goes into the text network for a prompt with images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llama4sdk_torch.model import TextModel
from llama4sdk_torch.vision import VisionModel

__all__ = ["with_images"]


@torch.inference_mode()
def with_images(
    network: TextModel, vision: VisionModel, tokens: Tensor, pixels: npt.NDArray[np.uint8], patch: int
) -> Tensor:
    """Embedded ``tokens`` [1, tokens], with the features of the tiles ``pixels`` in the places of the token ``patch``.

    Gives [1, tokens, hidden].
    """
    vectors = network.embed(tokens)
    vectors[tokens == patch] = vision.encode(torch.from_numpy(pixels))
    return vectors
