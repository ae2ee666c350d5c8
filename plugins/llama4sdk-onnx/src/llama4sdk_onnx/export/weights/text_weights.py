"""The text network's weights in an export: which file has which tensors, and how these are read and quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.quantization_plan import MatrixPlan, QuantizationPlan
from llama4sdk_onnx.export.weights.experts import Experts
from llama4sdk_onnx.export.weights.matrix_layout import MatrixLayout, block_size
from llama4sdk_onnx.export.weights.matrix_reader import MatrixReader
from llama4sdk_onnx.export.weights.rotary import rotary_group
from llama4sdk_onnx.export.weights.tensor_group import TensorGroup, matrix_group, weight_file
from llama4sdk_onnx.export.weights.weight_file import StoredTensor, WeightFile
from llama4sdk_onnx.manifest import Kind

#: The types of full precision that graphs compute in.
DTYPES: Final[Mapping[Quantization, np.dtype[np.generic]]] = {
    Quantization.FP32: np.dtype(np.float32),
    Quantization.FP16: np.dtype(np.float16),
}


def text_weight_files(checkpoint: Checkpoint, quantization: QuantizationConfig, *, kind: Kind) -> list[WeightFile]:
    """The files of the text graph's weights: one for each layer, and some for the rest.

    Matrices have the values that the native engine has under the same ``quantization``: codes that the checkpoint has
    in the wanted scheme are kept bit for bit. Only experts are quantized anew where the checkpoint's codes come with
    minima, or in groups that no block of ONNX Runtime's divides. Reading a file's values raises
    CheckpointError for those that are not finite.
    """
    network = _TextWeights(checkpoint, quantization, kind)
    config = checkpoint.config
    files = [weight_file("embedding", [network.embedding()])]
    rotary = rotary_group(config, DTYPES[quantization.dtype])
    if rotary.tensors:
        files.append(weight_file("rotary", [rotary]))
    files += [weight_file(f"layer-{layer:03}", network.layer(layer)) for layer in range(config.num_layers)]
    return [*files, weight_file("head", network.head())]


class _TextWeights:
    """The tensors of each part of the network."""

    def __init__(self, checkpoint: Checkpoint, quantization: QuantizationConfig, kind: Kind) -> None:
        self._checkpoint = checkpoint
        self._config = checkpoint.config
        self._kind = kind
        self._dtype = DTYPES[quantization.dtype]
        self._plan = QuantizationPlan(checkpoint, quantization)
        self._reader = MatrixReader(checkpoint)

    def embedding(self) -> TensorGroup:
        return self._matrix("embedding", "embedding", ["model.embed_tokens.weight"])

    def head(self) -> list[TensorGroup]:
        """The last norm and the head; tied embeddings are stored again only in another form."""
        norm = self._vector("norm", "model.norm.weight")
        tied = self._config.tied_embeddings
        names = ["model.embed_tokens.weight" if tied else "lm_head.weight"]
        if tied and self._plan.matrix_plan("head", names) == self._plan.matrix_plan("embedding", names):
            return [norm]
        return [norm, self._matrix("head", "head", names)]

    def layer(self, number: int) -> list[TensorGroup]:
        prefix, name = f"model.layers.{number}.", f"layers.{number}."
        heads = [f"{prefix}self_attn.{part}_proj.weight" for part in "qkv"]
        feed_forward = self._mixture if number in self._config.moe_layers else self._dense
        return [
            self._vector(f"{name}attention_norm", f"{prefix}input_layernorm.weight"),
            self._matrix(f"{name}attention.qkv", "attention", heads),
            self._matrix(f"{name}attention.output", "attention", [f"{prefix}self_attn.o_proj.weight"]),
            self._vector(f"{name}feed_forward_norm", f"{prefix}post_attention_layernorm.weight"),
            *feed_forward(f"{name}feed_forward.", f"{prefix}feed_forward."),
        ]

    def _dense(self, name: str, prefix: str, module: ModuleClass = "dense") -> list[TensorGroup]:
        return [
            self._matrix(f"{name}gate_up", module, [f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"]),
            self._matrix(f"{name}down", module, [f"{prefix}down_proj.weight"]),
        ]

    def _mixture(self, name: str, prefix: str) -> list[TensorGroup]:
        experts = Experts(
            reader=self._reader,
            config=self._config,
            plan=self._plan,
            kind=self._kind,
            dtype=self._dtype,
            prefix=prefix,
            fused=f"{prefix}experts.gate_up_proj" in self._checkpoint.tensors,
        )
        return [
            self._matrix(f"{name}router", "router", [f"{prefix}router.weight"]),
            *self._dense(f"{name}shared.", f"{prefix}shared_expert.", "shared_expert"),
            *experts.groups(f"{name}experts."),
        ]

    def _vector(self, name: str, source: str) -> TensorGroup:
        """The weights of a norm."""
        reader, dtype, shape = self._reader, self._dtype, self._checkpoint.tensors[source].shape
        return TensorGroup(
            (StoredTensor(f"{name}.weight", dtype, shape),),
            lambda _: reader.full_precision(source, reader.values(source), dtype),
            reader.source_bytes([source]),
        )

    def _matrix(self, name: str, module: ModuleClass, sources: list[str]) -> TensorGroup:
        """Matrices of equal width, joined in this order."""
        shapes = [self._checkpoint.tensors[source].shape for source in sources]
        inputs = shapes[0][1]
        matrix_plan = self._plan.matrix_plan(module, sources)
        block = block_size(matrix_plan.form, inputs)
        if block is None:  # only a form of the checkpoint's own has such groups
            matrix_plan = MatrixPlan(self._plan.config.format(module), keep_codes=False)
        layout = MatrixLayout(
            name=name,
            kind=self._kind,
            form=matrix_plan.form,
            dtype=self._dtype,
            rows=sum(shape[0] for shape in shapes),
            inputs=inputs,
            block=block or block_size(matrix_plan.form, inputs) or 1,
        )
        return matrix_group(self._reader, layout, sources, keep_codes=matrix_plan.keep_codes)
