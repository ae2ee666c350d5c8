"""The feed-forward half of a layer in a fast graph: dense, or a mixture of which only the chosen expert is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx.export.graphs.building import Attribute, Builder
from llama4sdk_onnx.export.graphs.operators import ACCURACY, linear, swiglu

__all__ = ["fast_feed_forward"]

#: One expert whose output counts once: silu(gate) * up, gate and up rows by turns.
ROUTED: Final[Mapping[str, Attribute]] = {
    "k": 1,
    "normalize_routing_weights": 1,
    "activation_type": "swiglu",
    "swiglu_fusion": 1,
    "activation_alpha": 1.0,
    "activation_beta": 0.0,
}


def fast_feed_forward(b: Builder, config: TextConfig, x: ir.Value, layer: int) -> ir.Value:
    """[batch, tokens, hidden] -> the same shape."""
    name = f"layers.{layer}.feed_forward."
    if layer not in config.moe_layers:
        return swiglu(b, x, name, config.hidden_size, config.dense_size)
    shared = swiglu(b, x, f"{name}shared.", config.hidden_size, config.expert_size)
    logits = linear(b, x, f"{name}router", config.hidden_size)  # [batch, tokens, experts]
    for scores, choice in _choices(b, config, logits):
        # The score scales what goes into the expert, not what comes out of it.
        scaled = b.op("Mul", x, b.op("Sigmoid", scores))
        shared = b.op("Add", shared, _expert(b, scaled, choice, f"{name}experts."))
    return shared


def _choices(b: Builder, config: TextConfig, logits: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
    """Its experts: a score [batch, tokens, 1] for each, and numbers [tokens, experts] of which it is the largest."""
    experts, k = config.num_experts, config.experts_per_token
    if k == 1:
        scores = b.op("ReduceMax", logits, b.constant([-1]), keepdims=1)
        return [(scores, b.reshape(logits, [-1, experts]))]
    best, places = b.ops("TopK", [logits, b.constant([k])], 2)
    scores_of, places_of = b.split(best, [1] * k), b.split(b.reshape(places, [-1, k]), [1] * k)
    marks = b.constant([0, 1], b.dtype)
    choices = []
    for scores, place in zip(scores_of, places_of, strict=True):
        flat = b.reshape(place, [-1])
        choices.append((scores, b.op("OneHot", flat, b.constant(experts), marks, axis=-1)))
    return choices


def _expert(b: Builder, x: ir.Value, choice: ir.Value, name: str) -> ir.Value:
    """One expert for each token: that of the largest number."""
    first, second = b.bits(f"{name}gate_up"), b.bits(f"{name}down")
    if first is None or second is None:
        weights = [b.weight(f"{name}gate_up.weight"), None, b.weight(f"{name}down.weight")]
        return b.op("MoE", x, choice, *weights, **ROUTED)
    experts, rows, blocks, width = b.shape(f"{name}gate_up.int{first}")
    wide = b.shape(f"{name}down.int{second}")
    weights = [
        b.weight(f"{name}gate_up.int{first}", (experts, rows, blocks * width)),
        b.weight(f"{name}gate_up.scales"),
        None,
        b.weight(f"{name}down.int{second}", (*wide[:2], wide[2] * wide[3])),
        b.weight(f"{name}down.scales"),
    ]
    held: dict[str, Attribute] = {"expert_weight_bits": first, "block_size": width * 8 // first}
    if second != first:
        held["fc2_expert_weight_bits"] = second
    return b.op("QMoE", x, choice, *weights, accuracy_level=ACCURACY, **ROUTED, **held)
