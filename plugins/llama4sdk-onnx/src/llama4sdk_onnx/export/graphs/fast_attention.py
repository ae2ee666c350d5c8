"""Attention in a fast graph: GroupQueryAttention, which rotates, attends, and writes to the cache in place."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx import interface
from llama4sdk_onnx.export.graphs.builder import Attribute, GraphBuilder, graph_value, name_output
from llama4sdk_onnx.export.graphs.fast_operators import linear, norm


class FastAttention:
    """The attention of all layers, and the values they share; ``inputs`` and ``outputs`` are the graph's, in order."""

    def __init__(self, b: GraphBuilder, config: TextConfig, positions: ir.Value) -> None:
        self._b = b
        self._config = config
        names = {"global": (interface.GLOBAL_LAST, interface.GLOBAL_TOTAL)}
        if config.chunked_layers:
            names["local"] = (interface.LOCAL_LAST, interface.LOCAL_TOTAL)
        self._counts = {
            reach: (graph_value(last, np.int32, "batch"), graph_value(total, np.int32, 1))
            for reach, (last, total) in names.items()
        }
        self.inputs = [value for counts in self._counts.values() for value in counts]
        self.outputs: list[ir.Value] = []
        self._positions = {"global": positions}
        if config.chunked_layers and config.chunk_size is not None:
            self._positions["local"] = b.op("Mod", positions, b.constant(config.chunk_size))
        self._temperature: ir.Value | None = None
        if config.temperature_tuning and config.nope_layers:  # with the scale of scores
            temperature = query_temperature(b, config, positions)
            self._temperature = b.op("Mul", temperature, b.constant(config.head_dim**-0.5, b.dtype))

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
        attributes: dict[str, Attribute] = {"num_heads": c.num_heads, "kv_num_heads": c.num_kv_heads}
        rotary: list[ir.Value | None] = [None, None, None]
        if layer not in c.nope_layers:
            rotary = [*(b.weight(f"rotary.{reach}.{part}") for part in ("cos", "sin")), self._positions[reach]]
            attributes |= {"do_rotary": 1, "rotary_interleaved": 1}
        if scaled:
            attributes["scale"] = 1.0
        inputs = [*heads, *past, *self._counts[reach], *rotary]
        if b.dtype == np.float32:
            # A sink that gets no attention, behind an absent bias of scores: with one, processors choose a kernel that
            # is twice as fast.
            inputs += [None, b.constant(np.full(c.num_heads, -np.inf), b.dtype)]
        out, *present = b.ops("GroupQueryAttention", *inputs, outputs=3, **attributes)
        for value, name in zip(present, interface.present(layer), strict=True):
            name_output(value, name, b.dtype, "batch", *slots)
        self.outputs += present
        return out


def query_temperature(b: GraphBuilder, config: TextConfig, positions: ir.Value) -> ir.Value:
    """The factor of queries in layers without rotation, [batch, tokens, 1]; exactly 1 in the first steps."""
    one = b.constant(1.0, np.float32)
    counted = b.op("Add", b.cast(positions, np.float32), one)
    steps = b.op("Floor", b.op("Div", counted, b.constant(config.floor_scale, np.float32)))
    grown = b.op("Mul", b.op("Log", b.op("Add", steps, one)), b.constant(config.attn_scale, np.float32))
    factor = b.op("Unsqueeze", b.op("Add", grown, one), b.constant([-1]))
    return factor if b.dtype == np.float32 else b.cast(factor, b.dtype)
