"""The text network as a graph with the inputs and outputs of ``interface``, in fast or standard operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from llama4sdk.errors import ConfigurationError
from llama4sdk.llama4.config import TextConfig
from llama4sdk_onnx import interface
from llama4sdk_onnx.export.graphs import standard_operators
from llama4sdk_onnx.export.graphs.builder import GraphBuilder, graph_value, name_output
from llama4sdk_onnx.export.graphs.fast_attention import FastAttention
from llama4sdk_onnx.export.graphs.fast_feed_forward import fast_feed_forward
from llama4sdk_onnx.export.graphs.fast_operators import embedding_rows, linear, norm, skip_norm
from llama4sdk_onnx.export.graphs.portable import portable_network
from llama4sdk_onnx.export.weights.weight_file import WeightFile
from llama4sdk_onnx.manifest import Kind

#: Versions of ONNX' operator set that a graph can be written in.
OPSETS: Final = range(18, 24)

DEFAULT_OPSET: Final = 21


def check_opset(opset: int) -> None:
    """Raise ConfigurationError for a version of ONNX' operator set that no graph can be written in."""
    if opset not in OPSETS:
        raise ConfigurationError(
            f"There is no way to write the graph in opset {opset}.",
            hint=f"Choose one from {OPSETS[0]} to {OPSETS[-1]}; {DEFAULT_OPSET} is the default.",
        )


def text_graph(
    config: TextConfig,
    weights: Sequence[WeightFile],
    *,
    dtype: np.dtype[np.generic],
    kind: Kind,
    opset: int = DEFAULT_OPSET,
    patch_token: int | None = None,
) -> ir.Model:
    """The network over ``weights``, which are the ``text_weight_files`` of the same kind and type of activations.

    ``patch_token`` is the token that image features replace, in a network that sees. Weights stay in their files, named
    from the export directory.
    """
    b = GraphBuilder(weights, dtype, opset)
    ids, positions = (graph_value(name, np.int64, "batch", "tokens") for name in (interface.IDS, interface.POSITIONS))
    logits_at = graph_value(interface.LOGITS_AT, np.int64, "rows")
    inputs = [ids, positions, logits_at]
    x = _embedded(b, config, ids, kind)
    if patch_token is not None:
        images = graph_value(interface.IMAGES, dtype, "features", config.hidden_size)
        inputs.append(images)
        x = _with_images(b, x, ids, images, patch_token)
    network = _fast_network if kind == "fast" else portable_network
    hidden, cache_inputs, present = network(b, config, x, positions)
    states = b.op("Gather", b.reshape(hidden, [-1, config.hidden_size]), logits_at, axis=0)
    logits = _logits(b, config, states, kind)
    name_output(hidden, interface.HIDDEN, dtype, "batch", "tokens", config.hidden_size)
    name_output(logits, interface.LOGITS, np.float32, "rows", config.vocab_size)
    return b.model("llama4_text", [*inputs, *cache_inputs], [logits, hidden, *present])


def _embedded(b: GraphBuilder, config: TextConfig, ids: ir.Value, kind: Kind) -> ir.Value:
    """[batch, tokens] -> [batch, tokens, hidden]."""
    if b.bits("embedding") is None:
        return b.op("Gather", b.weight("embedding.weight"), ids, axis=0)
    if kind == "fast":
        return embedding_rows(b, ids, "embedding", config.hidden_size)
    rows = standard_operators.matrix(b, "embedding", config.hidden_size, b.reshape(ids, [-1]))
    return b.op("Unsqueeze", rows, b.constant([0]))


def _with_images(b: GraphBuilder, x: ir.Value, ids: ir.Value, images: ir.Value, patch_token: int) -> ir.Value:
    """Replace the first image tokens by the features, in order; a network may write such a token itself."""
    indices = b.op("NonZero", b.op("Equal", ids, b.constant(patch_token)))  # [2, image tokens]
    features = b.op("Slice", b.op("Shape", images), b.constant([0]), b.constant([1]))
    replaced = b.op("Slice", b.op("Transpose", indices, perm=[1, 0]), b.constant([0]), features, b.constant([0]))
    return b.op("ScatterND", x, replaced, images)


def _fast_network(
    b: GraphBuilder, config: TextConfig, x: ir.Value, positions: ir.Value
) -> tuple[ir.Value, list[ir.Value], list[ir.Value]]:
    """The states after the last norm, further inputs, and the caches as outputs."""
    eps = config.norm_eps
    attention = FastAttention(b, config, positions)
    h = norm(b, x, b.weight("layers.0.attention_norm.weight"), eps)
    for layer in range(config.num_layers):
        last = layer + 1 == config.num_layers
        next_norm = "norm.weight" if last else f"layers.{layer + 1}.attention_norm.weight"
        h, x = skip_norm(b, attention(h, layer), x, b.weight(f"layers.{layer}.feed_forward_norm.weight"), eps)
        h, x = skip_norm(b, fast_feed_forward(b, config, h, layer), x, b.weight(next_norm), eps)
    return h, attention.inputs, attention.outputs


def _logits(b: GraphBuilder, config: TextConfig, states: ir.Value, kind: Kind) -> ir.Value:
    """[rows, hidden] -> [rows, vocabulary], float32."""
    head = "head" if "head.weight" in b or "head.scales" in b else "embedding"
    product = linear if kind == "fast" else standard_operators.linear
    logits = product(b, states, head, config.hidden_size)
    return logits if b.dtype == np.float32 else b.cast(logits, np.float32)
