"""Running the exported vision network."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk_onnx.interface import FEATURES, PIXELS
from llama4sdk_onnx.sessions import running

__all__ = ["TILES_AT_ONCE", "VisionNetwork"]

TILES_AT_ONCE: Final = 4
"""Bounds the memory that activations take, however many tiles a request has."""


class VisionNetwork:
    """The network in a session of its own, on ``device`` of the plan's."""

    def __init__(self, session: InferenceSession, config: VisionConfig, *, device: str = "cpu") -> None:
        self.config = config
        self._session = session
        self._device = device

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """What the text network sees of tiles [tiles, channels, side, side] of values from 0 to 255.

        Gives [tiles * tokens_per_tile, text hidden], tile by tile, each row by row, in the host's memory and in the
        type of the text network's states. Raises DeviceMemoryError when memory runs out, BackendError for the rest.
        """
        parts = np.split(pixels, range(TILES_AT_ONCE, len(pixels), TILES_AT_ONCE))
        with running(self._device):
            return np.concatenate([self._session.run([FEATURES], {PIXELS: part})[0] for part in parts])
