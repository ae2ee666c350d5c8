"""The text network as a graph: what goes in and comes out is ``interface``'s; its kind says what it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx_ir as ir

from llama4sdk.errors import ConfigurationError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.quantization import QuantizationConfig
from llama4sdk_onnx import interface
from llama4sdk_onnx.export.graphs import plain
from llama4sdk_onnx.export.graphs.attention import FastAttention
from llama4sdk_onnx.export.graphs.building import MICROSOFT, Builder, declared
from llama4sdk_onnx.export.graphs.feed_forward import fast_feed_forward
from llama4sdk_onnx.export.graphs.operators import linear, looked_up, norm, skip_norm
from llama4sdk_onnx.export.graphs.portable import portable_network
from llama4sdk_onnx.export.weights.packing import DTYPES
from llama4sdk_onnx.export.weights.pieces import Piece
from llama4sdk_onnx.manifest import Kind

__all__ = ["DEFAULT_OPSET", "OPSETS", "check_opset", "text_graph"]

#: Versions of ONNX' operators that a graph can be written in.
OPSETS: Final = range(18, 24)

DEFAULT_OPSET: Final = 21

#: Of the file format: the first that has these operator sets and 4-bit numbers.
IR_VERSION: Final = 10


def check_opset(opset: int) -> None:
    """Raise ConfigurationError where no graph can be written in this version of ONNX' operators."""
    if opset not in OPSETS:
        raise ConfigurationError(
            f"There is no way to write the graph in opset {opset}.",
            hint=f"Choose one from {OPSETS[0]} to {OPSETS[-1]}; {DEFAULT_OPSET} is the default.",
        )


def text_graph(
    config: TextConfig,
    pieces: Sequence[Piece],
    *,
    quantization: QuantizationConfig,
    kind: Kind,
    opset: int = DEFAULT_OPSET,
    sees: bool = False,
    patch_token: int = 0,
) -> ir.Model:
    """The network over these ``pieces``, which must be ``text_pieces`` of the same kind and quantization.

    ``patch_token``: the token whose places image features take, in a network that ``sees``. Weights stay in the
    pieces' files, named from the export directory. Raises ConfigurationError for an opset that cannot be had.
    """
    check_opset(opset)
    dtype = DTYPES[quantization.dtype]
    b = Builder(pieces, dtype, opset)
    ids, positions = (declared(name, np.int64, "batch", "tokens") for name in (interface.IDS, interface.POSITIONS))
    logits_at = declared(interface.LOGITS_AT, np.int64, "rows")
    inputs = [ids, positions, logits_at]
    x = _embedded(b, config, ids, kind)
    if sees:
        images = declared(interface.IMAGES, dtype, "features", config.hidden_size)
        inputs.append(images)
        x = _with_images(b, x, ids, images, patch_token)
    network = _fast_network if kind == "fast" else portable_network
    hidden, more, present = network(b, config, x, positions)
    states = b.op("Gather", b.reshape(hidden, [-1, config.hidden_size]), logits_at, axis=0)
    logits = _logits(b, config, states, kind)
    hidden.name, hidden.shape = interface.HIDDEN, ir.Shape(["batch", "tokens", config.hidden_size])
    hidden.type = ir.TensorType(ir.DataType.from_numpy(dtype))
    logits.name, logits.shape = interface.LOGITS, ir.Shape(["rows", config.vocab_size])
    logits.type = ir.TensorType(ir.DataType.FLOAT)
    graph = ir.Graph(
        [*inputs, *more],
        [logits, hidden, *present],
        nodes=b.nodes,
        initializers=b.initializers,
        opset_imports={"": opset, **({MICROSOFT: 1} if kind == "fast" else {})},
        name="llama4_text",
    )
    return ir.Model(graph, ir_version=IR_VERSION, producer_name="llama4sdk")


def _embedded(b: Builder, config: TextConfig, ids: ir.Value, kind: Kind) -> ir.Value:
    """[batch, tokens] -> [batch, tokens, hidden]."""
    if b.bits("embedding") is None:
        return b.op("Gather", b.weight("embedding.weight"), ids, axis=0)
    if kind == "fast":
        return looked_up(b, ids, "embedding", config.hidden_size)
    rows = plain.matrix(b, "embedding", config.hidden_size, b.reshape(ids, [-1]))
    return b.op("Unsqueeze", rows, b.constant([0]))


def _with_images(b: Builder, x: ir.Value, ids: ir.Value, images: ir.Value, patch_token: int) -> ir.Value:
    """The features in the places of the first image tokens, in order; a network may write such a token itself."""
    places = b.op("NonZero", b.op("Equal", ids, b.constant(patch_token)))  # [2, image tokens]
    features = b.op("Slice", b.op("Shape", images), b.constant([0]), b.constant([1]))
    taken = b.op("Slice", b.op("Transpose", places, perm=[1, 0]), b.constant([0]), features, b.constant([0]))
    return b.op("ScatterND", x, taken, images)


def _fast_network(
    b: Builder, config: TextConfig, x: ir.Value, positions: ir.Value
) -> tuple[ir.Value, list[ir.Value], list[ir.Value]]:
    """The states behind the last norm, further inputs, and the caches as they come out."""
    eps = config.norm_eps
    attention = FastAttention(b, config, positions)
    h = norm(b, x, b.weight("layers.0.attention_norm.weight"), eps)
    for layer in range(config.num_layers):
        last = layer + 1 == config.num_layers
        after = "norm.weight" if last else f"layers.{layer + 1}.attention_norm.weight"
        h, x = skip_norm(b, attention(h, layer), x, b.weight(f"layers.{layer}.feed_forward_norm.weight"), eps)
        h, x = skip_norm(b, fast_feed_forward(b, config, h, layer), x, b.weight(after), eps)
    return h, attention.inputs, attention.outputs


def _logits(b: Builder, config: TextConfig, states: ir.Value, kind: Kind) -> ir.Value:
    """[rows, hidden] -> [rows, vocabulary], float32."""
    head = "head" if "head.weight" in b or "head.scales" in b else "embedding"
    product = linear if kind == "fast" else plain.linear
    logits = product(b, states, head, config.hidden_size)
    return logits if b.dtype == np.float32 else b.cast(logits, np.float32)
