"""Exact sizes from a network's hyper-parameters alone. Pure; all results are counts or bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from llama4sdk.llama4.config import TextConfig
from llama4sdk.quantization import MatrixFormat, ModuleClass, Quantization, QuantizationConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """``count`` matrices of one class and shape, [outputs, inputs]."""

    module: ModuleClass
    outputs: int
    inputs: int
    count: int = 1

    @property
    def parameters(self) -> int:
        """Weights of all of them."""
        return self.outputs * self.inputs * self.count

    def bytes(self, form: MatrixFormat) -> int:
        """Memory of all of them in this format."""
        return form.bytes(self.outputs, self.inputs) * self.count


def parameters(config: TextConfig) -> int:
    """The number of the text network's parameters; tied embeddings count once."""
    return sum(linear.parameters for linear in linears(config)) + _norms(config)


def weight_bytes(
    config: TextConfig, quantization: Quantization | QuantizationConfig, *, other_parameters: int = 0
) -> int:
    """Memory of the loaded weights. ``other_parameters`` (vision) are in full precision.

    Exact for what is quantized when it is loaded; weights that a checkpoint has quantized already keep its own scales.
    """
    scheme = QuantizationConfig.of(quantization)
    return sum(class_bytes(config, scheme).values()) + other_parameters * scheme.dtype.bits // 8


def class_bytes(config: TextConfig, quantization: Quantization | QuantizationConfig) -> dict[ModuleClass, int]:
    """Memory of the text network's weights by class of modules; together they are ``weight_bytes``."""
    scheme = QuantizationConfig.of(quantization)
    sizes: dict[ModuleClass, int] = {"norms": _norms(config) * scheme.dtype.bits // 8}
    for linear in filter(lambda linear: linear.count, linears(config)):
        sizes[linear.module] = sizes.get(linear.module, 0) + linear.bytes(scheme.format(linear.module))
    return sizes


def kv_cache_bytes(config: TextConfig, context: int, *, value_bytes: int = 2, chunk_aware: bool = False) -> int:
    """Bytes of the keys and values of one sequence of ``context`` tokens.

    A chunk-aware cache keeps at most one chunk in the layers that attend no further; a naive one keeps everything.
    """
    per_token = 2 * config.num_kv_heads * config.head_dim * value_bytes
    local = len(config.chunked_layers) if chunk_aware else 0
    local_tokens = min(context, config.chunk_size or context)
    return per_token * ((config.num_layers - local) * context + local * local_tokens)


def linears(c: TextConfig) -> Iterator[Linear]:
    """The text network's matrices, the embedding among them; the head only where it is not the same."""
    queries, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    yield Linear(module="embedding", outputs=c.vocab_size, inputs=c.hidden_size)
    if not c.tied_embeddings:
        yield Linear(module="head", outputs=c.vocab_size, inputs=c.hidden_size)
    yield Linear(module="attention", outputs=queries, inputs=c.hidden_size, count=c.num_layers)
    yield Linear(module="attention", outputs=keys, inputs=c.hidden_size, count=2 * c.num_layers)
    yield Linear(module="attention", outputs=c.hidden_size, inputs=queries, count=c.num_layers)
    mixtures = len(c.moe_layers)
    yield Linear(module="router", outputs=c.num_experts, inputs=c.hidden_size, count=mixtures)
    yield from _swiglu("dense", c.hidden_size, c.dense_size, c.num_layers - mixtures)
    yield from _swiglu("shared_expert", c.hidden_size, c.expert_size, mixtures)
    yield from _swiglu("experts", c.hidden_size, c.expert_size, mixtures * c.num_experts)


def _swiglu(module: ModuleClass, hidden: int, inner: int, count: int) -> Iterator[Linear]:
    yield Linear(module=module, outputs=inner, inputs=hidden, count=2 * count)
    yield Linear(module=module, outputs=hidden, inputs=inner, count=count)


def _norms(c: TextConfig) -> int:
    return (2 * c.num_layers + 1) * c.hidden_size
