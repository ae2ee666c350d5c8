"""What an export of a checkpoint consists of, before anything is written: the pieces, and the graphs over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import onnx_ir as ir

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_onnx.export.genai import GENAI_GRAPH, genai_graph
from llama4sdk_onnx.export.graphs.graph import text_graph
from llama4sdk_onnx.export.graphs.vision import vision_graph, vision_pieces
from llama4sdk_onnx.export.options import Choices
from llama4sdk_onnx.export.weights.packing import DTYPES, text_pieces
from llama4sdk_onnx.export.weights.pieces import Piece
from llama4sdk_onnx.manifest import GRAPH, VISION_GRAPH

__all__ = ["Drawing", "drawn"]

#: The control token in whose places image features stand.
PATCH: Final = "<|patch|>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """Every file of weights, and how the files of graphs are made."""

    pieces: tuple[Piece, ...]
    graphs: Callable[[], dict[str, bytes]]


def drawn(checkpoint: Checkpoint, choices: Choices, *, patch_token: int | None) -> Drawing:
    """The whole export of a checkpoint. Reads no weights; raises CheckpointError and ConfigurationError."""
    text, quantization = checkpoint.config, choices.quantization
    pieces = text_pieces(checkpoint, quantization, kind=choices.kind)
    vision, dtype = checkpoint.vision, DTYPES[quantization.dtype]
    if vision is not None and patch_token is None:
        raise CheckpointError(f"{checkpoint.path} sees images, but its tokenizer has no '{PATCH}' to put them at.")
    seen = [] if vision is None else vision_pieces(checkpoint, dtype)

    draw = partial(text_graph, text, pieces, quantization=quantization, kind=choices.kind, opset=choices.opset)

    def graphs() -> dict[str, bytes]:
        made = {GRAPH: _bytes(draw(sees=vision is not None, patch_token=patch_token or 0))}
        if choices.kind == "fast":
            made[GENAI_GRAPH] = _bytes(genai_graph(draw()))
        if vision is not None:
            sight = vision_graph(vision, text.hidden_size, seen, dtype=dtype, opset=choices.opset, kind=choices.kind)
            made[VISION_GRAPH] = _bytes(sight)
        return made

    return Drawing(pieces=(*pieces, *seen), graphs=graphs)


def _bytes(model: ir.Model) -> bytes:
    """The same for the same graph; weights stay in the files that it names."""
    data: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return data
