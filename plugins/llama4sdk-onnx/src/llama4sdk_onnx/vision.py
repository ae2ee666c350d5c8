"""The exported vision network in a session."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from onnxruntime import InferenceSession

from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk_onnx.interface import FEATURES, PIXELS
from llama4sdk_onnx.sessions import run_errors

#: Tiles that are encoded together, which bounds the memory of activations.
MAX_TILES: Final = 4


class VisionNetwork:
    """The network in a session of its own, on ``device``, as plans name devices."""

    def __init__(self, session: InferenceSession, config: VisionConfig, *, device: str = "cpu") -> None:
        self.config = config
        self._session = session
        self._device = device

    def encode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.floating]:
        """The image features [tiles * tokens_per_tile, text hidden] of tiles [tiles, channels, side, side].

        Pixels are values from 0 to 255. Features come tile by tile, each row by row, in the host's memory and in the
        type of the text network's states. Raises DeviceMemoryError when memory runs out, BackendError for other faults.
        """
        parts = np.split(pixels, range(MAX_TILES, len(pixels), MAX_TILES))
        with run_errors(self._device):
            return np.concatenate([self._session.run([FEATURES], {PIXELS: part})[0] for part in parts])
