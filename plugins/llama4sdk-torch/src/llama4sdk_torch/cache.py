"""The keys and values a sequence has left behind, so that no token is computed twice."""

from __future__ import annotations

import torch
from torch import Tensor

from llama4sdk.llama4.config import TextConfig

__all__ = ["KVCache"]


class KVCache:
    """Room for ``capacity`` tokens of ``batch`` sequences in every layer; ``length`` of them are filled.

    The memory is taken once, at its full size. What is not filled yet is never read.
    """

    def __init__(
        self, config: TextConfig, capacity: int, *, device: torch.device, dtype: torch.dtype, batch: int = 1
    ) -> None:
        shape = (config.num_layers, batch, config.num_kv_heads, capacity, config.head_dim)
        self.capacity = capacity
        self.length = 0
        self._keys = torch.empty(shape, device=device, dtype=dtype)
        self._values = torch.empty(shape, device=device, dtype=dtype)

    def append(self, layer: int, keys: Tensor, values: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Store one layer's keys and values behind ``length``, and give back those from position ``first`` on.

        Both are [batch, kv_heads, tokens, dim]. ``length`` itself moves once all layers are done: see ``advance``.
        """
        end = self.length + keys.shape[2]
        self._keys[layer, :, :, self.length : end] = keys
        self._values[layer, :, :, self.length : end] = values
        return self._keys[layer, :, :, first:end], self._values[layer, :, :, first:end]

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` more as filled."""
        self.length += tokens
