"""What a network takes of a device, part by part. Pure, and free of torch.

Weights and cache are exact. Workspace and runtime are modelled, and held to what a process was seen to take
(``benchmarks/memory.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from llama4sdk.llama4.config import TextConfig
from llama4sdk.planning.estimate import class_bytes, kv_cache_bytes, linears
from llama4sdk.planning.quantization import ModuleClass, Quantization, QuantizationConfig

__all__ = ["ATTENDED", "BLOCK", "Site", "memory_breakdown", "memory_bytes"]

Site: TypeAlias = Literal["cpu", "accelerator"]

BLOCK: Final = 512
"""Prompt tokens of one sequence that go through the network at once: bounds the memory of a long prompt."""

ATTENDED: Final = 2**23
"""Pairs of a token and what it may see that are masked at once: bounds the memory of a long context."""

RUNTIME: Final[Mapping[Site, int]] = {"cpu": 144 * 10**6, "accelerator": 512 * 2**20}
"""Torch's own memory once it is imported, or a device's context with its libraries, in bytes."""

TOKENIZER: Final = 500
"""Bytes of the machine's memory that a token of the vocabulary takes."""

SLACK: Final = 8 * 10**6
"""What lies between the pieces that an allocator was asked for."""

VISION_WORKSPACE: Final = 512 * 2**20
"""Activations of the tiles that are encoded at once, in the published network and float32."""


def memory_bytes(
    config: TextConfig,
    precision: Quantization | QuantizationConfig,
    context: int,
    *,
    site: Site = "cpu",
    vision: int = 0,
    text: Mapping[ModuleClass, int] | None = None,
) -> int:
    """Everything a device must have room for; see ``memory_breakdown``."""
    return sum(memory_breakdown(config, precision, context, site=site, vision=vision, text=text).values())


def memory_breakdown(
    config: TextConfig,
    precision: Quantization | QuantizationConfig,
    context: int,
    *,
    site: Site = "cpu",
    vision: int = 0,
    text: Mapping[ModuleClass, int] | None = None,
) -> dict[str, int]:
    """Bytes of the weights by class, of the cache of one sequence, of work space and of the runtime.

    ``vision`` is the number of the vision network's parameters; ``text`` the bytes of the text network's weights, where
    they are not what its sizes say.
    """
    chosen = QuantizationConfig.of(precision)
    width = chosen.dtype.bits // 8
    weights = class_bytes(config, chosen) if text is None else text
    parts = {
        **{str(part): size for part, size in weights.items()},
        "vision": vision * width,
        "kv_cache": kv_cache_bytes(config, context, value_bytes=width, chunk_aware=True),
        "workspace": max(_workspace(config, chosen, context, site), VISION_WORKSPACE if vision else 0),
        "runtime": RUNTIME[site] + (TOKENIZER * config.vocab_size if site == "cpu" else 0),
    }
    return {part: size for part, size in parts.items() if size}


def _workspace(c: TextConfig, chosen: QuantizationConfig, context: int, site: Site) -> int:
    """A prompt block's activations and masks, one layer's old cache while it grows, one matrix's values, the logits."""
    width = chosen.dtype.bits // 8
    heads = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    inner = max(c.dense_size, c.expert_size)
    block = min(BLOCK, context)
    activations = block * (6 * c.hidden_size + 4 * heads + 4 * inner) * width
    growing = kv_cache_bytes(c, context, value_bytes=width) // c.num_layers
    return activations + _masked(c, block, context, width, site) + growing + _dequantized(c, chosen) + _logits(c)


def _masked(c: TextConfig, block: int, context: int, width: int, site: Site) -> int:
    """Masks as truth values, one for each kind of layer, and as what is added to the scores; there is none at first.

    An accelerator may have no kernel for them, and then holds the scores themselves, before and after.
    """
    if context <= block:
        return 0
    pairs = min(block * context, ATTENDED)
    scores = 0 if site == "cpu" else 2 * c.num_heads * pairs * width
    return pairs * (2 + 4) + scores


def _logits(c: TextConfig) -> int:
    """Of one token, float32, while it is drawn."""
    return 4 * c.vocab_size * 4 + SLACK


def _dequantized(c: TextConfig, chosen: QuantizationConfig) -> int:
    """The largest matrix whose values are made while it is used; queries, keys and values are one, gate and up too."""
    outputs: dict[ModuleClass, int] = {
        "attention": (c.num_heads + 2 * c.num_kv_heads) * c.head_dim,
        "experts": 2 * c.expert_size,
        "shared_expert": 2 * c.expert_size,
        "dense": 2 * c.dense_size,
        "head": c.vocab_size,
    }
    here = {"head", *(matrix.module for matrix in linears(c) if matrix.count)}
    made = [size for part, size in outputs.items() if part in here and not chosen.scheme(part).full_precision]
    return max(made, default=0) * c.hidden_size * chosen.dtype.bits // 8
