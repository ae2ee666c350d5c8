"""Llama 4's vision network as a graph: tiles in, image features for the text network out.

Each tile is encoded by itself. Patches and a class token (last) go through a transformer with two-dimensional rotary
positions; neighbouring patches are then joined, and two small layers and a projector make vectors of the text
network's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk_onnx.export.graphs.builder import GraphBuilder, graph_value, name_output
from llama4sdk_onnx.export.weights.vision_weights import (
    ADAPTER,
    FIRST_NORM,
    LAST_NORM,
    PATCHES,
    POSITIONS,
    PROJECTOR,
    layer_prefix,
)
from llama4sdk_onnx.export.weights.weight_file import WeightFile
from llama4sdk_onnx.interface import FEATURES, PIXELS
from llama4sdk_onnx.manifest import Kind

NORM_EPS: Final = 1e-5


def vision_graph(
    config: VisionConfig,
    hidden: int,
    weights: Sequence[WeightFile],
    *,
    dtype: np.dtype[np.generic],
    opset: int,
    kind: Kind,
) -> ir.Model:
    """The graph over the weights of ``vision_weight_files``, of operator set 18 or later. Reads no weights.

    ``hidden`` is the text network's width.
    """
    b = GraphBuilder(weights, dtype, opset)
    pixels = graph_value(PIXELS, np.uint8, "tiles", config.channels, config.tile_size, config.tile_size)
    features = _Tower(b, config, kind).features(pixels)
    name_output(features, FEATURES, dtype, "features", hidden)
    return b.model("llama4_vision", [pixels], [features])


class _Tower:
    """Adds the nodes. Values are [tiles, patches + 1, hidden] where no other shape is named."""

    def __init__(self, b: GraphBuilder, config: VisionConfig, kind: Kind) -> None:
        self._b = b
        self._config = config
        self._kind = kind
        self._tokens = config.grid**2 + 1
        self._head_dim = config.hidden_size // config.num_heads
        self._cos, self._sin = (b.constant(part, b.dtype) for part in _rotation(config))

    def features(self, pixels: ir.Value) -> ir.Value:
        """[tiles * tokens_per_tile, text hidden]."""
        b = self._b
        x = b.op("MatMul", self._patches(pixels), b.weight(PATCHES))
        x = b.op("Pad", x, b.constant([0, 0, 0, 0, 1, 0]))  # where the class token goes
        x = self._norm(b.op("Add", x, b.weight(POSITIONS)), FIRST_NORM)
        for layer in range(self._config.num_layers):
            prefix = layer_prefix(layer)
            x = b.op("Add", x, self._attend(self._norm(x, f"{prefix}input_layernorm"), prefix))
            inner = self._linear(self._norm(x, f"{prefix}post_attention_layernorm"), f"{prefix}mlp.fc1")
            x = b.op("Add", x, self._linear(self._gelu(inner), f"{prefix}mlp.fc2"))
        x = self._shuffled(self._norm(x, LAST_NORM))
        for matrix in ADAPTER:
            x = self._gelu(b.op("MatMul", x, b.weight(matrix)))
        return b.op("MatMul", x, b.weight(PROJECTOR))

    def _patches(self, pixels: ir.Value) -> ir.Value:
        """[tiles, channels, side, side], 0 to 255 -> [tiles, patches, channels * patch * patch], -1 to 1."""
        b, c = self._b, self._config
        middle, one = (b.constant(number, np.float32) for number in (127.5, 1))
        scaled = b.op("Sub", b.op("Div", b.cast(pixels, np.float32), middle), one)
        if b.dtype != np.float32:
            scaled = b.cast(scaled, b.dtype)
        grid = b.reshape(scaled, [-1, c.channels, c.grid, c.patch_size, c.grid, c.patch_size])
        rows = b.op("Transpose", grid, perm=[0, 2, 4, 1, 3, 5])
        return b.reshape(rows, [-1, c.grid**2, c.channels * c.patch_size**2])

    def _attend(self, h: ir.Value, prefix: str) -> ir.Value:
        c = self._config
        qk, v = self._b.split(self._linear(h, f"{prefix}self_attn.qkv_proj"), [2 * c.hidden_size, c.hidden_size])
        q, k = self._rotated(qk)
        attend = self._fused_attention if self._kind == "fast" else self._attention
        return self._linear(attend(q, k, v), f"{prefix}self_attn.o_proj")

    def _attention(self, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        b, c = self._b, self._config
        q, k, v = (b.reshape(part, [-1, self._tokens, c.num_heads, self._head_dim]) for part in (q, k, v))
        across = b.op("Transpose", k, perm=[0, 2, 3, 1])  # [tiles, heads, dim, patches + 1]
        q, v = (b.op("Transpose", part, perm=[0, 2, 1, 3]) for part in (q, v))
        weights = b.op("Softmax", b.op("MatMul", q, across), axis=-1)
        mixed = b.op("Transpose", b.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        return b.reshape(mixed, [-1, self._tokens, c.hidden_size])

    def _fused_attention(self, q: ir.Value, k: ir.Value, v: ir.Value) -> ir.Value:
        """Attention in one operator, which never has all scores of a head in memory."""
        b, c = self._b, self._config
        q, k = (b.reshape(part, [-1, self._tokens, c.hidden_size]) for part in (q, k))
        return b.op("MultiHeadAttention", q, k, v, num_heads=c.num_heads, scale=1.0)

    def _rotated(self, qk: ir.Value) -> Sequence[ir.Value]:
        """Rotate adjacent pairs of queries and keys as complex numbers.

        [tiles, patches + 1, 2 * hidden] -> both, each [tiles, patches + 1, heads, dim / 2, 2].
        """
        b, heads = self._b, self._config.num_heads
        real, imaginary = b.split(b.reshape(qk, [-1, self._tokens, 2 * heads, self._head_dim // 2, 2]), [1, 1])
        across = b.op("Sub", b.op("Mul", real, self._cos), b.op("Mul", imaginary, self._sin))
        along = b.op("Add", b.op("Mul", real, self._sin), b.op("Mul", imaginary, self._cos))
        rotated = b.op("Concat", across, along, axis=-1)
        return b.split(rotated, [heads, heads], axis=2)

    def _shuffled(self, x: ir.Value) -> ir.Value:
        """Join squares of neighbouring patches, without the class token: [tiles * tokens, hidden * 4].

        Within a vector the square's patches come row by row, as the squares do within a tile.
        """
        b, c, n = self._b, self._config, self._config.shuffle
        side = c.grid // n
        patches = b.op("Slice", x, b.constant([0]), b.constant([-1]), b.constant([1]))
        grid = b.reshape(patches, [-1, side, n, side, n, c.hidden_size])
        return b.reshape(b.op("Transpose", grid, perm=[0, 1, 3, 2, 4, 5]), [-1, c.mlp_size])

    def _linear(self, x: ir.Value, name: str) -> ir.Value:
        b = self._b
        return b.op("Add", b.op("MatMul", x, b.weight(f"{name}.weight")), b.weight(f"{name}.bias"))

    def _norm(self, x: ir.Value, name: str) -> ir.Value:
        weight, bias = (self._b.weight(f"{name}.{part}") for part in ("weight", "bias"))
        return self._b.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=NORM_EPS)

    def _gelu(self, x: ir.Value) -> ir.Value:
        """The exact GELU, in operators that every operator set has and ONNX Runtime fuses."""
        b = self._b
        root, one, half = (b.constant(number, b.dtype) for number in (math.sqrt(2), 1, 0.5))
        error = b.op("Erf", b.op("Div", x, root))
        return b.op("Mul", b.op("Mul", x, b.op("Add", error, one)), half)


def _rotation(config: VisionConfig) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Cosines and sines, [patches + 1, 1, dim / 2, 1]: half the pairs rotate by the column, half by the row.

    Those of the class token do not rotate. Queries and keys also get the scale of scores, each its root.
    """
    dim = config.hidden_size // config.num_heads
    exponents = np.arange(0, dim // 2, 2, dtype=np.float32) / (dim // 2)
    frequencies = 1 / np.float32(config.rope_theta) ** exponents
    steps = np.outer(np.arange(1, config.grid + 1, dtype=np.float32), frequencies)  # [grid, dim / 4]
    columns, rows = np.tile(steps, (config.grid, 1)), np.repeat(steps, config.grid, axis=0)
    angles = np.pad(np.concatenate([columns, rows], axis=1), ((0, 1), (0, 0)))[:, None, :, None]
    return np.cos(angles) * dim**-0.25, np.sin(angles) * dim**-0.25
