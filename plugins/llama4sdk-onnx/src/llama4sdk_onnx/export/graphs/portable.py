"""The text network in ONNX' standard operators, which every runtime has; slower than the fast graph.

It runs one sequence at a time, and its states are [tokens, hidden].
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx import interface
from llama4sdk_onnx.export.graphs.builder import GraphBuilder, graph_value, name_output
from llama4sdk_onnx.export.graphs.fast_attention import query_temperature
from llama4sdk_onnx.export.graphs.standard_operators import linear, norm, swiglu


def portable_network(
    b: GraphBuilder, config: TextConfig, x: ir.Value, positions: ir.Value
) -> tuple[ir.Value, list[ir.Value], list[ir.Value]]:
    """The states after the last norm, the caches as inputs, and as outputs."""
    eps = config.norm_eps
    attention = PortableAttention(b, config, positions)
    x = b.reshape(x, [-1, config.hidden_size])
    for layer in range(config.num_layers):
        prefix = f"layers.{layer}."
        h = norm(b, x, eps, f"{prefix}attention_norm.weight")
        x = b.op("Add", x, attention(h, layer))
        h = norm(b, x, eps, f"{prefix}feed_forward_norm.weight")
        x = b.op("Add", x, portable_feed_forward(b, config, h, layer))
    states = b.op("Unsqueeze", norm(b, x, eps, "norm.weight"), b.constant([0]))
    return states, attention.inputs, attention.outputs


class PortableAttention:
    """The attention of all layers, and the values they share; ``inputs`` and ``outputs`` are the caches, which grow."""

    def __init__(self, b: GraphBuilder, config: TextConfig, positions: ir.Value) -> None:
        self._b = b
        self._config = config
        self.inputs: list[ir.Value] = []
        self.outputs: list[ir.Value] = []
        self._positions = b.reshape(positions, [-1])  # [tokens]
        self._tokens = b.op("Shape", self._positions)
        self._masks: dict[str, ir.Value] = {}
        self._tables: dict[str, list[ir.Value]] = {}
        tuned = config.temperature_tuning and config.nope_layers
        self._temperature = query_temperature(b, config, positions) if tuned else None  # [1, tokens, 1]

    def __call__(self, h: ir.Value, layer: int) -> ir.Value:
        """[tokens, hidden] -> the same shape."""
        c, b = self._config, self._b
        heads, keys = c.num_heads + c.num_kv_heads, c.num_kv_heads
        qkv = linear(b, h, f"layers.{layer}.attention.qkv", c.hidden_size)
        each = b.op("Transpose", b.reshape(qkv, [0, heads + keys, c.head_dim]), perm=[1, 0, 2])
        queries_keys, v = b.split(each, [heads, keys], axis=0)  # [heads, tokens, dim]
        if layer not in c.nope_layers:
            queries_keys = self._rotated(queries_keys, "local" if layer in c.chunked_layers else "global")
            queries_keys = norm(b, queries_keys, c.norm_eps) if c.qk_norm else queries_keys
        q, k = b.split(queries_keys, [c.num_heads, keys], axis=0)
        if layer in c.nope_layers and self._temperature is not None:
            q = b.op("Mul", q, self._temperature)
        out = self._attend(q, k, v, layer)
        flat = b.reshape(b.op("Transpose", out, perm=[2, 0, 1, 3]), [0, c.num_heads * c.head_dim])
        return linear(b, flat, f"layers.{layer}.attention.output", c.num_heads * c.head_dim)

    def _attend(self, q: ir.Value, k: ir.Value, v: ir.Value, layer: int) -> ir.Value:
        """q: [heads, tokens, dim]; k, v: [kv_heads, tokens, dim] -> [kv_heads, group, tokens, dim]."""
        c, b = self._config, self._b
        reach = "local" if layer in c.chunked_layers else "global"
        caches = []
        for name, present_name, new in zip(interface.past(layer), interface.present(layer), (k, v), strict=True):
            past = graph_value(name, b.dtype, 1, c.num_kv_heads, f"{reach}_past", c.head_dim)
            present = b.op("Concat", past, b.op("Unsqueeze", new, b.constant([0])), axis=2)
            name_output(present, present_name, b.dtype, 1, c.num_kv_heads, f"{reach}_present", c.head_dim)
            self.inputs.append(past)
            self.outputs.append(present)
            caches.append(b.op("Transpose", present, perm=[1, 0, 2, 3]))  # [kv_heads, 1, slots, dim]
        if reach not in self._masks:
            self._masks[reach] = self._mask(self.outputs[-1])
        grouped = b.reshape(q, [c.num_kv_heads, c.num_heads // c.num_kv_heads, -1, c.head_dim])
        scaled = b.op("Mul", grouped, b.constant(c.head_dim**-0.5, b.dtype))
        scores = b.op("MatMul", scaled, b.op("Transpose", caches[0], perm=[0, 1, 3, 2]))
        weights = b.op("Softmax", b.op("Add", scores, self._masks[reach]), axis=-1)
        return b.op("MatMul", weights, caches[1])

    def _mask(self, present: ir.Value) -> ir.Value:
        """The mask of scores, [tokens, slots]: 0 where a token sees a slot, else minus infinity."""
        b = self._b
        size = b.op("Shape", present, start=2, end=3)
        one, zero = b.constant(1), b.constant(0)
        end, begin = (b.op("Squeeze", value) for value in (size, b.op("Sub", size, self._tokens)))
        own = b.op("Unsqueeze", b.op("Range", begin, end, one), b.constant([1]))
        sees = b.op("LessOrEqual", b.op("Range", zero, end, one), own)
        lowest = b.constant(-np.inf, b.dtype)
        return b.op("Where", sees, b.constant(0, b.dtype), lowest)

    def _rotated(self, x: ir.Value, reach: str) -> ir.Value:
        """Rotate adjacent pairs as complex numbers. [heads, tokens, dim] -> the same shape."""
        c, b = self._config, self._b
        if reach not in self._tables:
            local = reach == "local" and c.chunk_size is not None
            rows = b.op("Mod", self._positions, b.constant(c.chunk_size or 1)) if local else self._positions
            tables = (b.weight(f"rotary.{reach}.{part}") for part in ("cos", "sin"))
            self._tables[reach] = [
                b.op("Unsqueeze", b.op("Gather", table, rows, axis=0), b.constant([-1])) for table in tables
            ]  # [tokens, dim / 2, 1]
        cos, sin = self._tables[reach]
        even, odd = b.split(b.reshape(x, [0, 0, -1, 2]), [1, 1])
        first = b.op("Sub", b.op("Mul", even, cos), b.op("Mul", odd, sin))
        second = b.op("Add", b.op("Mul", even, sin), b.op("Mul", odd, cos))
        return b.reshape(b.op("Concat", first, second, axis=-1), [0, 0, c.head_dim])


def portable_feed_forward(b: GraphBuilder, config: TextConfig, x: ir.Value, layer: int) -> ir.Value:
    """[tokens, hidden] -> the same shape."""
    name = f"layers.{layer}.feed_forward."
    if layer not in config.moe_layers:
        return swiglu(b, x, name, config.hidden_size, config.dense_size)
    k, hidden = config.experts_per_token, config.hidden_size
    shared = swiglu(b, x, f"{name}shared.", hidden, config.expert_size)
    logits = linear(b, x, f"{name}router", hidden)  # [tokens, experts]
    best, experts = b.ops("TopK", logits, b.constant([k]), outputs=2)
    # The score scales what goes into the expert, not what comes out of it.
    scores = b.op("Unsqueeze", b.op("Sigmoid", best), b.constant([-1]))
    inputs = b.op("Mul", b.op("Unsqueeze", x, b.constant([1])), scores)  # [tokens, k, hidden]
    flat, choice = b.reshape(inputs, [-1, hidden]), b.reshape(experts, [-1])
    routed = _routed_experts(b, config, flat, choice, f"{name}experts.")
    summed = b.op("ReduceSum", b.reshape(routed, [-1, k, hidden]), b.constant([1]), keepdims=0)
    return b.op("Add", shared, summed)


def _routed_experts(b: GraphBuilder, config: TextConfig, inputs: ir.Value, choice: ir.Value, name: str) -> ir.Value:
    """Compute each expert once, on the rows that chose it. [rows, hidden], [rows] -> [rows, hidden]."""
    body = b.inner()
    expert, goes_on = b.value(np.int64), b.value(np.bool_)
    before = b.value(b.dtype, "rows", config.hidden_size)
    chose = body.op("NonZero", body.op("Equal", choice, expert))  # [1, rows of this expert]
    some = body.op("Greater", body.op("Size", chose), body.constant(0))
    computed = body.inner()
    indices = computed.op("Transpose", chose, perm=[1, 0])
    rows = computed.op("GatherND", inputs, indices)
    out = swiglu(computed, rows, name, config.hidden_size, config.expert_size, expert)
    after = computed.op("ScatterND", before, indices, out)
    skipped = body.inner()
    same = skipped.op("Identity", before)
    result = body.op("If", some, then_branch=computed.graph([], [after]), else_branch=skipped.graph([], [same]))
    still = body.op("Identity", goes_on)
    graph = body.graph([expert, goes_on, before], [still, result])
    nothing = b.op("Mul", inputs, b.constant(0, b.dtype))
    return b.op("Loop", b.constant(config.num_experts), b.constant(1, np.bool_), nothing, body=graph)
