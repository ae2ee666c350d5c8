"""Exact sizes from a network's hyper-parameters alone. Pure; all results are counts or bytes.

The quantized schemes are the field's common ones. Linear layers (attention, experts, dense layers) are quantized;
embeddings, head, router, norms and vision stay at two bytes:

- fp8, int8: one byte per weight and one fp32 scale per output channel;
- int4: half a byte per weight and one bf16 scale per group of 128 inputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from llama4sdk.llama4.config import TextConfig
from llama4sdk.planning.plan import Quantization

__all__ = ["kv_cache_bytes", "parameters", "weight_bytes"]

INT4_GROUP: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linear:
    """``count`` matrices of one shape, [outputs, inputs]."""

    outputs: int
    inputs: int
    count: int

    @property
    def parameters(self) -> int:
        return self.outputs * self.inputs * self.count

    def bytes(self, quantization: Quantization) -> int:
        if quantization is Quantization.INT4:
            groups = -(-self.inputs // INT4_GROUP)
            return (self.outputs * self.inputs // 2 + self.outputs * groups * 2) * self.count
        if not quantization.full_precision:
            return (self.outputs * self.inputs + self.outputs * 4) * self.count
        return self.parameters * quantization.bits // 8


def parameters(config: TextConfig) -> int:
    """All parameters of the text network; tied embeddings count once."""
    return sum(linear.parameters for linear in _linears(config)) + _unquantized(config)


def weight_bytes(config: TextConfig, quantization: Quantization, *, other_parameters: int = 0) -> int:
    """Memory of the loaded weights. ``other_parameters`` (vision) stay at the unquantized width."""
    width = quantization.bits // 8 if quantization.full_precision else 2
    linears = sum(linear.bytes(quantization) for linear in _linears(config))
    return linears + (_unquantized(config) + other_parameters) * width


def kv_cache_bytes(config: TextConfig, context: int, *, value_bytes: int = 2, chunk_aware: bool = False) -> int:
    """Keys and values of one sequence of ``context`` tokens.

    A chunk-aware cache keeps at most one chunk in the layers that cannot see further; a naive one keeps everything.
    """
    per_token = 2 * config.num_kv_heads * config.head_dim * value_bytes
    local = len(config.chunked_layers) if chunk_aware else 0
    local_tokens = min(context, config.chunk_size or context)
    return per_token * ((config.num_layers - local) * context + local * local_tokens)


def _linears(c: TextConfig) -> Iterator[_Linear]:
    queries, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    yield _Linear(outputs=queries, inputs=c.hidden_size, count=c.num_layers)
    yield _Linear(outputs=keys, inputs=c.hidden_size, count=2 * c.num_layers)
    yield _Linear(outputs=c.hidden_size, inputs=queries, count=c.num_layers)
    dense = c.num_layers - len(c.moe_layers)
    yield _Linear(outputs=c.dense_size, inputs=c.hidden_size, count=2 * dense)
    yield _Linear(outputs=c.hidden_size, inputs=c.dense_size, count=dense)
    experts = len(c.moe_layers) * (c.num_experts + 1)  # the shared expert is one more of the same shape
    yield _Linear(outputs=c.expert_size, inputs=c.hidden_size, count=2 * experts)
    yield _Linear(outputs=c.hidden_size, inputs=c.expert_size, count=experts)


def _unquantized(c: TextConfig) -> int:
    embeddings = c.vocab_size * c.hidden_size * (1 if c.tied_embeddings else 2)
    router = len(c.moe_layers) * c.num_experts * c.hidden_size
    norms = (2 * c.num_layers + 1) * c.hidden_size
    return embeddings + router + norms
