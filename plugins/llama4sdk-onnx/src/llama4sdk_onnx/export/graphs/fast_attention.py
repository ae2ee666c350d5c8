"""Attention in a fast graph: GroupQueryAttention, which rotates, attends, and writes to the cache in place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx import interface
from llama4sdk_onnx.export.graphs.builder import Attribute, GraphBuilder, graph_value
from llama4sdk_onnx.export.graphs.fast_operators import linear, norm


class FastAttention:
    """The attention of all layers, and the values they share; ``inputs`` and ``outputs`` are the graph's, in order."""

    def __init__(self, b: GraphBuilder, config: TextConfig, positions: ir.Value) -> None:
        self._b = b
        self._config = config
        self._last = {"global": graph_value(interface.GLOBAL_LAST, np.int32, "batch")}
        self._total = {"global": graph_value(interface.GLOBAL_TOTAL, np.int32, 1)}
        if config.chunked_layers:
            self._last["local"] = graph_value(interface.LOCAL_LAST, np.int32, "batch")
            self._total["local"] = graph_value(interface.LOCAL_TOTAL, np.int32, 1)
        self.inputs = [value for reach in self._last for value in (self._last[reach], self._total[reach])]
        self.outputs: list[ir.Value] = []
        self._positions = {"global": positions}
        if config.chunked_layers and config.chunk_size is not None:
            self._positions["local"] = b.op("Mod", positions, b.constant(config.chunk_size))
        tuned = config.temperature_tuning and config.nope_layers
        self._temperature = self._with_score_scale(query_temperature(b, config, positions)) if tuned else None

    def __call__(self, h: ir.Value, layer: int) -> ir.Value:
        """[batch, tokens, hidden] -> the same shape."""
        c, b = self._config, self._b
        qkv = linear(b, h, f"layers.{layer}.attention.qkv", c.hidden_size)
        queries, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
        heads: list[ir.Value | None] = [qkv, None, None]
        scaled = True
        if layer in c.nope_layers and self._temperature is not None:
            q, k, v = b.split(qkv, [queries, keys, keys])
            heads = [b.op("Mul", q, self._temperature), k, v]
        elif layer not in c.nope_layers and c.qk_norm:
            queries_keys, v = b.split(qkv, [queries + keys, keys])
            heads = [*b.split(self._head_norms(queries_keys), [queries, keys]), v]
        else:
            scaled = False
        out = self._attend(heads, layer, scaled=scaled)
        return linear(b, out, f"layers.{layer}.attention.output", queries)

    def _with_score_scale(self, factor: ir.Value) -> ir.Value:
        """A factor of queries times the scale of scores, so that the products with keys are the scores."""
        return self._b.op("Mul", factor, self._b.constant(self._config.head_dim**-0.5, self._b.dtype))

    def _head_norms(self, x: ir.Value) -> ir.Value:
        """Norm each head: before its rotation, which keeps the norm, as well as after.

        Queries and keys share the scale of their products between them.
        """
        c, b = self._config, self._b
        heads = c.num_heads + c.num_kv_heads
        shares = b.constant(np.full(c.head_dim, c.head_dim**-0.25), b.dtype)
        normed = norm(b, b.reshape(x, [0, 0, heads, c.head_dim]), shares, c.norm_eps)
        return b.reshape(normed, [0, 0, heads * c.head_dim])

    def _attend(self, heads: list[ir.Value | None], layer: int, *, scaled: bool) -> ir.Value:
        c, b = self._config, self._b
        reach = "local" if layer in c.chunked_layers else "global"
        slots = (c.num_kv_heads, f"{reach}_slots", c.head_dim)
        past = [graph_value(name, b.dtype, "batch", *slots) for name in interface.past(layer)]
        self.inputs += past
        rotated = layer not in c.nope_layers
        rotary: list[ir.Value | None] = [None, None, None]
        if rotated:
            rotary = [*(b.weight(f"rotary.{reach}.{part}") for part in ("cos", "sin")), self._positions[reach]]
        sink = self._sink()
        sinks = [] if sink is None else [None, sink]  # behind an absent bias of scores
        inputs = [*heads, *past, self._last[reach], self._total[reach], *rotary, *sinks]
        out, *present = b.ops("GroupQueryAttention", inputs, 3, self._attributes(rotated=rotated, scaled=scaled))
        for value, name, like in zip(present, interface.present(layer), past, strict=True):
            value.name, value.type, value.shape = name, like.type, like.shape
        self.outputs += present
        return out

    def _sink(self) -> ir.Value | None:
        """An attention sink that gets no attention: with one, processors choose a kernel that is twice as fast."""
        if self._b.dtype != np.float32:
            return None
        return self._b.constant(np.full(self._config.num_heads, -np.inf), self._b.dtype)

    def _attributes(self, *, rotated: bool, scaled: bool) -> dict[str, Attribute]:
        heads: dict[str, Attribute] = {"num_heads": self._config.num_heads, "kv_num_heads": self._config.num_kv_heads}
        rotary: dict[str, Attribute] = {"do_rotary": 1, "rotary_interleaved": 1} if rotated else {}
        return heads | rotary | ({"scale": 1.0} if scaled else {})


def query_temperature(b: GraphBuilder, config: TextConfig, positions: ir.Value) -> ir.Value:
    """The factor of queries in layers without rotation, [batch, tokens, 1]; exactly 1 in the first steps."""
    one = b.constant(1.0, np.float32)
    counted = b.op("Add", b.cast(positions, np.float32), one)
    steps = b.op("Floor", b.op("Div", counted, b.constant(config.floor_scale, np.float32)))
    grown = b.op("Mul", b.op("Log", b.op("Add", steps, one)), b.constant(config.attn_scale, np.float32))
    factor = b.op("Unsqueeze", b.op("Add", grown, one), b.constant([-1]))
    return factor if b.dtype == np.float32 else b.cast(factor, b.dtype)
