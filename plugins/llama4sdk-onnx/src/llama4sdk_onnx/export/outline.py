"""The outline of an export, before anything is written: its files of weights, and the graphs over them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.images.canvas import PATCH
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_onnx.export.genai import GENAI_GRAPH, genai_graph
from llama4sdk_onnx.export.graphs.text import text_graph
from llama4sdk_onnx.export.graphs.vision import vision_graph
from llama4sdk_onnx.export.options import ResolvedOptions
from llama4sdk_onnx.export.weights.text_weights import DTYPES, text_weight_files
from llama4sdk_onnx.export.weights.vision_weights import vision_weight_files
from llama4sdk_onnx.export.weights.weight_file import WeightFile
from llama4sdk_onnx.manifest import GRAPH, VISION_GRAPH


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """The files of weights, and a function that builds the files of graphs, by name."""

    weight_files: tuple[WeightFile, ...]
    graphs: Callable[[], dict[str, bytes]]


def outline_export(checkpoint: Checkpoint, options: ResolvedOptions, *, patch_token: int | None) -> Outline:
    """The outline of a checkpoint's export. Reads no weights; raises CheckpointError and ConfigurationError.

    ``patch_token`` is the token in whose places image features stand.
    """
    config, vision, quantization = checkpoint.config, checkpoint.vision, options.quantization
    if vision is not None and patch_token is None:
        raise CheckpointError(f"{checkpoint.path} sees images, but its tokenizer has no '{PATCH}' to put them at.")
    dtype, kind, opset = DTYPES[quantization.dtype], options.kind, options.opset
    text_files = text_weight_files(checkpoint, quantization, kind=kind)
    vision_files = vision_weight_files(checkpoint, dtype)
    build_text = partial(text_graph, config, text_files, quantization=quantization, kind=kind, opset=opset)

    def graphs() -> dict[str, bytes]:
        models = {GRAPH: build_text(sees=vision is not None, patch_token=patch_token or 0)}
        if kind == "fast":
            models[GENAI_GRAPH] = genai_graph(build_text())
        if vision is not None:
            models[VISION_GRAPH] = vision_graph(
                vision, config.hidden_size, vision_files, dtype=dtype, opset=opset, kind=kind
            )
        return {name: _serialized(model) for name, model in models.items()}

    return Outline(weight_files=(*text_files, *vision_files), graphs=graphs)


def _serialized(model: ir.Model) -> bytes:
    """The same bytes for the same graph; weights stay in the files that it names."""
    data: bytes = ir.serde.serialize_model(model).SerializeToString(deterministic=True)
    return data
