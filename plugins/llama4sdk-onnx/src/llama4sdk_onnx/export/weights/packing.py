"""A checkpoint's weights as the pieces of an export: which file holds what, and how it is read and rounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, get_args

import numpy as np

from llama4sdk.errors import ConfigurationError
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.quantization_plan import MatrixPlan, QuantizationPlan
from llama4sdk_onnx.export.graphs.rotary import rotary_rows, rotary_tensors, rotary_values
from llama4sdk_onnx.export.weights.layouts import Layout, block_size
from llama4sdk_onnx.export.weights.mixtures import Experts
from llama4sdk_onnx.export.weights.parts import Part, matrix_part, vector_part
from llama4sdk_onnx.export.weights.pieces import Array, Piece
from llama4sdk_onnx.export.weights.quantizing import workers
from llama4sdk_onnx.export.weights.reading import Reader
from llama4sdk_onnx.manifest import Kind

__all__ = ["DTYPES", "text_pieces"]

#: Full precision that ONNX Runtime's processors compute in.
DTYPES: Final[Mapping[Quantization, np.dtype[np.generic]]] = {
    Quantization.FP32: np.dtype(np.float32),
    Quantization.FP16: np.dtype(np.float16),
}


def text_pieces(checkpoint: Checkpoint, quantization: QuantizationConfig, *, kind: Kind) -> list[Piece]:
    """Everything the text graph needs, a file for each layer and for what is outside of layers.

    Matrices hold the values the native engine would hold under the same ``quantization``: codes that the checkpoint has
    in the wanted scheme are kept bit for bit. Only experts are rounded anew where the checkpoint's codes come with
    minima, or in groups that no block of ONNX Runtime's fits into. Values are read when a piece's are asked for; what
    is no finite number is a CheckpointError then. Raises ConfigurationError for a scheme that cannot be exported.
    """
    packer = _Packer(checkpoint, quantization, kind)
    config = checkpoint.config
    pieces = [_piece("embedding", packer.embedding())]
    if rotary_rows(config):
        pieces.append(_piece("rotary", [packer.rotary()]))
    pieces += [_piece(f"layer-{layer:03}", packer.layer(layer)) for layer in range(config.num_layers)]
    return [*pieces, _piece("head", packer.head())]


def _piece(name: str, parts: Sequence[Part]) -> Piece:
    def values() -> Iterator[Array]:
        with workers() as pool:
            for part in parts:
                yield from part.values(pool)

    return Piece(
        file=f"weights/{name}.bin",
        tensors=tuple(tensor for part in parts for tensor in part.tensors),
        values=values,
        source_bytes=sum(part.source_bytes for part in parts),
    )


class _Packer:
    def __init__(self, checkpoint: Checkpoint, quantization: QuantizationConfig, kind: Kind) -> None:
        _require_exportable(quantization)
        self._checkpoint = checkpoint
        self._config = checkpoint.config
        self._kind = kind
        self._dtype = DTYPES[quantization.dtype]
        self._plan = QuantizationPlan(checkpoint, quantization)
        self._reader = Reader(checkpoint)

    def embedding(self) -> list[Part]:
        return [self._matrix("embedding", "embedding", ["model.embed_tokens.weight"])]

    def rotary(self) -> Part:
        tensors = rotary_tensors(self._config, self._dtype)
        return Part(tensors, lambda _: rotary_values(self._config, self._dtype), 0)

    def head(self) -> list[Part]:
        """Tied embeddings are stored once more only where they are to be held in another way as a head."""
        norm = self._vector("norm", "model.norm.weight")
        tied = self._config.tied_embeddings
        names = ["model.embed_tokens.weight" if tied else "lm_head.weight"]
        if tied and self._plan.matrix_plan("head", names) == self._plan.matrix_plan("embedding", names):
            return [norm]
        return [norm, self._matrix("head", "head", names)]

    def layer(self, number: int) -> list[Part]:
        prefix, name = f"model.layers.{number}.", f"layers.{number}."
        heads = [f"{prefix}self_attn.{part}_proj.weight" for part in "qkv"]
        moe = number in self._config.moe_layers
        feed_forward = self._mixture if moe else self._dense
        return [
            self._vector(f"{name}attention_norm", f"{prefix}input_layernorm.weight"),
            self._matrix(f"{name}attention.qkv", "attention", heads),
            self._matrix(f"{name}attention.output", "attention", [f"{prefix}self_attn.o_proj.weight"]),
            self._vector(f"{name}feed_forward_norm", f"{prefix}post_attention_layernorm.weight"),
            *feed_forward(f"{name}feed_forward.", f"{prefix}feed_forward."),
        ]

    def _dense(self, name: str, prefix: str, module: ModuleClass = "dense") -> list[Part]:
        return [
            self._matrix(f"{name}gate_up", module, [f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"]),
            self._matrix(f"{name}down", module, [f"{prefix}down_proj.weight"]),
        ]

    def _mixture(self, name: str, prefix: str) -> list[Part]:
        return [
            self._matrix(f"{name}router", "router", [f"{prefix}router.weight"]),
            *self._dense(f"{name}shared.", f"{prefix}shared_expert.", "shared_expert"),
            *self._experts(prefix).parts(f"{name}experts."),
        ]

    def _experts(self, prefix: str) -> Experts:
        return Experts(
            reader=self._reader,
            config=self._config,
            plan=self._plan,
            kind=self._kind,
            dtype=self._dtype,
            prefix=prefix,
            fused=f"{prefix}experts.gate_up_proj" in self._checkpoint.tensors,
        )

    def _vector(self, name: str, source: str) -> Part:
        return vector_part(self._reader, name, source, self._dtype)

    def _matrix(self, name: str, module: ModuleClass, sources: list[str]) -> Part:
        """Matrices of equal width as one, in this order."""
        shapes = [self._checkpoint.tensors[source].shape for source in sources]
        inputs = shapes[0][1]
        matrix_plan = self._plan.matrix_plan(module, sources)
        block = block_size(matrix_plan.form, inputs)
        if block is None:  # no form that is not the checkpoint's own has such groups
            matrix_plan = MatrixPlan(self._plan.config.format(module), keep_codes=False)
        layout = Layout(
            name=name,
            kind=self._kind,
            form=matrix_plan.form,
            dtype=self._dtype,
            rows=sum(shape[0] for shape in shapes),
            inputs=inputs,
            block=block or block_size(matrix_plan.form, inputs) or 1,
        )
        return matrix_part(self._reader, layout, sources, keep_codes=matrix_plan.keep_codes)


def _require_exportable(quantization: QuantizationConfig) -> None:
    schemes = {quantization.dtype, *(quantization.scheme(module) for module in get_args(ModuleClass))}
    wrong = sorted(schemes - {*DTYPES, Quantization.INT8, Quantization.INT4})
    if wrong:
        raise ConfigurationError(
            f"{' and '.join(wrong)} cannot be exported to ONNX.",
            hint="Export as fp32, fp16, int8 or int4; for graphics cards, 'int4/fp16' has fp16 activations.",
        )
