"""The vision network's weights in an export: a file for each layer, and one for the rest.

Matrices are transposed, [in, out], so that states are multiplied from the left. Queries, keys and values are one
matrix. The class token is added to its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_onnx.export.weights.matrix_reader import MatrixReader
from llama4sdk_onnx.export.weights.tensor_group import TensorGroup, weight_file
from llama4sdk_onnx.export.weights.weight_file import Array, StoredTensor, WeightFile

DType = np.dtype[np.generic]

MODEL: Final = "vision_model."
PATCHES: Final = f"{MODEL}patch_embedding.linear.weight"
CLASS: Final = f"{MODEL}class_embedding"
POSITIONS: Final = f"{MODEL}positional_embedding_vlm"
FIRST_NORM: Final = f"{MODEL}layernorm_pre"
LAST_NORM: Final = f"{MODEL}layernorm_post"
ADAPTER: Final = (f"{MODEL}vision_adapter.mlp.fc1.weight", f"{MODEL}vision_adapter.mlp.fc2.weight")
PROJECTOR: Final = "multi_modal_projector.linear_1.weight"


def layer_prefix(layer: int) -> str:
    """The prefix of the names of a layer's tensors."""
    return f"{MODEL}model.layers.{layer}."


def vision_weight_files(checkpoint: Checkpoint, dtype: DType) -> list[WeightFile]:
    """The files of the vision network's weights in float32 or float16; none for a checkpoint without one.

    Reading the values of a file raises CheckpointError for a tensor with values that are not finite, also in ``dtype``.
    """
    config = checkpoint.vision
    if config is None:
        return []
    reader = MatrixReader(checkpoint)
    parts = {"vision": _outside(config, checkpoint.config.hidden_size)}
    parts |= {f"vision-{layer:03}": _layer(config, layer) for layer in range(config.num_layers)}
    return [weight_file(name, [_group(reader, dtype, tensor) for tensor in part]) for name, part in parts.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """One tensor of the export, the checkpoint's tensors it is made from, and how."""

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    make: Callable[[Sequence[Array]], Array]


def _group(reader: MatrixReader, dtype: DType, tensor: _Tensor) -> TensorGroup:
    def values(_: ThreadPoolExecutor) -> Iterator[Array]:
        sources = [
            np.concatenate(list(reader.full_precision(name, reader.values(name), dtype))) for name in tensor.sources
        ]
        yield np.ascontiguousarray(tensor.make(sources))

    stored = StoredTensor(tensor.name, dtype, tensor.shape)
    return TensorGroup((stored,), values, reader.source_bytes(tensor.sources))


def _outside(c: VisionConfig, text_hidden: int) -> Iterator[_Tensor]:
    yield _matrix(PATCHES, c.channels * c.patch_size**2, c.hidden_size)
    yield _Tensor(
        name=POSITIONS, shape=(c.grid**2 + 1, c.hidden_size), sources=(POSITIONS, CLASS), make=_with_class_token
    )
    for norm in (FIRST_NORM, LAST_NORM):
        yield from _norm(norm, c.hidden_size)
    yield _matrix(ADAPTER[0], c.mlp_size, c.adapter_size)
    yield _matrix(ADAPTER[1], c.adapter_size, c.adapter_size)
    yield _matrix(PROJECTOR, c.adapter_size, text_hidden)


def _layer(c: VisionConfig, layer: int) -> Iterator[_Tensor]:
    prefix, hidden = layer_prefix(layer), c.hidden_size
    heads = tuple(f"{prefix}self_attn.{part}_proj" for part in "qkv")
    yield from _norm(f"{prefix}input_layernorm", hidden)
    yield from _linear(f"{prefix}self_attn.qkv_proj", hidden, 3 * hidden, *heads)
    yield from _linear(f"{prefix}self_attn.o_proj", hidden, hidden)
    yield from _norm(f"{prefix}post_attention_layernorm", hidden)
    yield from _linear(f"{prefix}mlp.fc1", hidden, c.mlp_size)
    yield from _linear(f"{prefix}mlp.fc2", c.mlp_size, hidden)


def _linear(name: str, inputs: int, outputs: int, *sources: str) -> Iterator[_Tensor]:
    """Weight and bias of a linear layer, or of several of the checkpoint's with the same input, joined."""
    yield _matrix(f"{name}.weight", inputs, outputs, *(f"{source}.weight" for source in sources))
    yield _vector(f"{name}.bias", outputs, *(f"{source}.bias" for source in sources))


def _norm(name: str, width: int) -> Iterator[_Tensor]:
    yield _vector(f"{name}.weight", width)
    yield _vector(f"{name}.bias", width)


def _matrix(name: str, inputs: int, outputs: int, *sources: str) -> _Tensor:
    return _Tensor(name=name, shape=(inputs, outputs), sources=sources or (name,), make=_transposed)


def _vector(name: str, width: int, *sources: str) -> _Tensor:
    return _Tensor(name=name, shape=(width,), sources=sources or (name,), make=np.concatenate)


def _transposed(matrices: Sequence[Array]) -> Array:
    return np.concatenate(matrices).T


def _with_class_token(tensors: Sequence[Array]) -> Array:
    """Positions with the class token added to its own, [patches + 1, hidden]; the graph's input is zero there."""
    positions, token = tensors
    return np.concatenate([positions[:-1], np.add(positions[-1:], token)])
