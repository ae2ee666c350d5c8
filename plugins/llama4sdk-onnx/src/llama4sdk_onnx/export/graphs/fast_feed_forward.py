"""The feed-forward half of a layer in a fast graph: dense, or a mixture of which only the chosen expert is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import onnx_ir as ir

from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx.export.graphs.builder import Attribute, GraphBuilder
from llama4sdk_onnx.export.graphs.fast_operators import ACCURACY_LEVEL, linear, swiglu

#: One expert whose output has the weight 1: silu(gate) * up, with gate and up rows interleaved.
EXPERT_ATTRIBUTES: Final[Mapping[str, Attribute]] = {
    "k": 1,
    "normalize_routing_weights": 1,
    "activation_type": "swiglu",
    "swiglu_fusion": 1,
    "activation_alpha": 1.0,
    "activation_beta": 0.0,
}


def fast_feed_forward(b: GraphBuilder, config: TextConfig, x: ir.Value, layer: int) -> ir.Value:
    """[batch, tokens, hidden] -> the same shape."""
    name = f"layers.{layer}.feed_forward."
    if layer not in config.moe_layers:
        return swiglu(b, x, name, config.hidden_size, config.dense_size)
    shared = swiglu(b, x, f"{name}shared.", config.hidden_size, config.expert_size)
    logits = linear(b, x, f"{name}router", config.hidden_size)  # [batch, tokens, experts]
    for scores, choice in _chosen_experts(b, config, logits):
        # The score scales what goes into the expert, not what comes out of it.
        scaled = b.op("Mul", x, b.op("Sigmoid", scores))
        shared = b.op("Add", shared, _expert(b, scaled, choice, f"{name}experts."))
    return shared


def _chosen_experts(b: GraphBuilder, config: TextConfig, logits: ir.Value) -> list[tuple[ir.Value, ir.Value]]:
    """Each chosen expert's score [batch, tokens, 1], and numbers [tokens, experts] that are largest at it."""
    experts, k = config.num_experts, config.experts_per_token
    if k == 1:
        scores = b.op("ReduceMax", logits, b.constant([-1]), keepdims=1)
        return [(scores, b.reshape(logits, [-1, experts]))]
    best, indices = b.ops("TopK", logits, b.constant([k]), outputs=2)
    best_scores, best_indices = b.split(best, [1] * k), b.split(b.reshape(indices, [-1, k]), [1] * k)
    off_on = b.constant([0, 1], b.dtype)
    return [
        (scores, b.op("OneHot", b.reshape(index, [-1]), b.constant(experts), off_on, axis=-1))
        for scores, index in zip(best_scores, best_indices, strict=True)
    ]


def _expert(b: GraphBuilder, x: ir.Value, choice: ir.Value, name: str) -> ir.Value:
    """One expert for each token: the one of the largest number in ``choice``."""
    first, second = b.bits(f"{name}gate_up"), b.bits(f"{name}down")
    if first is None or second is None:
        weights = [b.weight(f"{name}gate_up.weight"), None, b.weight(f"{name}down.weight")]
        return b.op("MoE", x, choice, *weights, **EXPERT_ATTRIBUTES)
    experts, rows, blocks, width = b.shape(f"{name}gate_up.int{first}")
    down = b.shape(f"{name}down.int{second}")
    weights = [
        b.weight(f"{name}gate_up.int{first}", (experts, rows, blocks * width)),
        b.weight(f"{name}gate_up.scales"),
        None,
        b.weight(f"{name}down.int{second}", (*down[:2], down[2] * down[3])),
        b.weight(f"{name}down.scales"),
    ]
    attributes: dict[str, Attribute] = {"expert_weight_bits": first, "block_size": width * 8 // first}
    if second != first:
        attributes["fc2_expert_weight_bits"] = second
    return b.op("QMoE", x, choice, *weights, accuracy_level=ACCURACY_LEVEL, **EXPERT_ATTRIBUTES, **attributes)
