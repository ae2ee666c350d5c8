"""Llama 4's vision network as plain tensor code: tiles in, vectors for the text network out.

Every tile is encoded for itself. Patches and a class token (last) go through a transformer with two-dimensional rotary
positions; neighbouring patches are then put together, and two small layers and a projector make text-sized vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (the name everybody knows it by)

from llama4sdk.llama4.vision_config import VisionConfig

#: Tiles that are encoded at once: bounds the memory of activations, however many tiles a request has.
TILES_AT_ONCE = 4

NORM_EPS = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Affine:
    """A weight and a bias: of a linear layer, [out, in] and [out], or of a norm, both [hidden]."""

    weight: Tensor
    bias: Tensor

    def linear(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return F.linear(x, self.weight, self.bias)

    def norm(self, x: Tensor) -> Tensor:
        """Layer norm over the last axis."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, NORM_EPS)


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLayer:
    """One block. ``qkv``: [3 * hidden, hidden]; ``up``: [inner, hidden]."""

    attention_norm: Affine
    qkv: Affine
    output: Affine
    mlp_norm: Affine
    up: Affine
    down: Affine


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionWeights:
    """``patches``: [hidden, channels * patch * patch], channels outermost; ``positions``: [patches + 1, hidden].

    ``adapter``: [width, hidden * 4] and [width, width]; ``projector``: [text hidden, width].
    """

    patches: Tensor
    class_token: Tensor
    positions: Tensor
    first_norm: Affine
    layers: tuple[VisionLayer, ...]
    last_norm: Affine
    adapter: tuple[Tensor, Tensor]
    projector: Tensor


class VisionModel:
    """The network with its weights."""

    def __init__(self, config: VisionConfig, weights: VisionWeights) -> None:
        self.config = config
        self.weights = weights
        self.device = weights.patches.device
        self.dtype = weights.patches.dtype
        self._rotation = _rotation(config).to(self.device)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Tensor:
        """The features of tiles [tiles, channels, side, side] of values from 0 to 255, for the text network.

        Gives [tiles * tokens_per_tile, text hidden], tile by tile, each row by row.
        """
        return torch.cat([self._encode(part) for part in torch.split(pixels, TILES_AT_ONCE)])

    def _encode(self, pixels: Tensor) -> Tensor:
        w = self.weights
        scaled = pixels.to(self.device, torch.float32) / 127.5 - 1  # black, also where nothing is, becomes -1
        patches = F.linear(self._patches(scaled.to(self.dtype)), w.patches)
        last = w.class_token.expand(len(patches), 1, -1)
        x = w.first_norm.norm(torch.cat([patches, last], dim=1) + w.positions)  # [tiles, patches + 1, hidden]
        for layer in w.layers:
            x = x + self._attend(layer.attention_norm.norm(x), layer)
            x = x + layer.down.linear(F.gelu(layer.up.linear(layer.mlp_norm.norm(x))))
        x = self._shuffle(w.last_norm.norm(x)[:, :-1])
        for matrix in w.adapter:
            x = F.gelu(F.linear(x, matrix))
        return F.linear(x, w.projector).flatten(0, 1)

    def _patches(self, pixels: Tensor) -> Tensor:
        """[tiles, channels, side, side] -> [tiles, patches, channels * patch * patch], patches row by row."""
        c = self.config
        grid = pixels.view(-1, c.channels, c.grid, c.patch_size, c.grid, c.patch_size)
        return grid.permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), c.grid**2, -1)

    def _attend(self, h: Tensor, layer: VisionLayer) -> Tensor:
        qkv = layer.qkv.linear(h).view(*h.shape[:2], 3, self.config.num_heads, -1)
        q, k, v = qkv.unbind(2)  # [tiles, patches + 1, heads, dim]
        q, k, v = (part.transpose(1, 2) for part in (self._rotate(q), self._rotate(k), v))
        return layer.output.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def _rotate(self, x: Tensor) -> Tensor:
        """Turn adjacent pairs of the last axis as complex numbers."""
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self._rotation).flatten(-2).to(x.dtype)

    def _shuffle(self, x: Tensor) -> Tensor:
        """Squares of neighbouring patches as one vector each: [tiles, patches, hidden] -> [tiles, tokens, hidden * 4].

        Within a vector the square's patches come row by row, as the squares do within a tile.
        """
        n = self.config.shuffle
        side = self.config.grid // n
        squares = x.view(len(x), side, n, side, n, -1).transpose(2, 3)
        return squares.reshape(len(x), side * side, -1)


def _rotation(config: VisionConfig) -> Tensor:
    """[patches + 1, 1, dim / 2], complex: half the pairs turn by the column, half by the row, the class token not."""
    dim = config.hidden_size // config.num_heads
    frequencies = 1.0 / config.rope_theta ** (torch.arange(0, dim // 2, 2, dtype=torch.float32) / (dim // 2))
    steps = torch.outer(torch.arange(1, config.grid + 1, dtype=torch.float32), frequencies)  # [grid, dim / 4]
    columns, rows = steps.repeat(config.grid, 1), steps.repeat_interleave(config.grid, dim=0)
    angles = F.pad(torch.cat([columns, rows], dim=1), (0, 0, 0, 1))
    return torch.polar(torch.ones_like(angles), angles).unsqueeze(1)


def replace_patches(vectors: Tensor, tokens: Tensor, features: Tensor, patch_token: int) -> Tensor:
    """Embedded ``tokens`` [tokens, hidden] with the first of ``features`` where the token ``patch_token`` is."""
    patches = tokens == patch_token
    vectors[patches] = features[: int(patches.sum())]
    return vectors
