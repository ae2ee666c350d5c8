"""The tokens that a guide allows, as the device needs them."""

from __future__ import annotations

import torch
from torch import Tensor

from llama4sdk.local.guidance import Guide

__all__ = ["Mask"]


class Mask:
    """Only bits travel to the device, which unpacks them itself; the host waits for none of it."""

    def __init__(self, guide: Guide, device: torch.device) -> None:
        self._guide = guide
        self._device = device
        self._bits = torch.zeros(guide.words, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._places = torch.arange(32, dtype=torch.int32, device=device)

    def allowed(self) -> Tensor:
        """What ``Guide.allowed`` gives, on the device, and raising the same.

        The memory the bits are in is used again: the token drawn with it must be read before the next call.
        """
        self._guide.fill(self._bits.data_ptr())
        bits = self._bits.to(self._device, non_blocking=True).unsqueeze(-1)  # [words, 1]
        return (bits >> self._places & 1).flatten()[: self._guide.width].bool()
