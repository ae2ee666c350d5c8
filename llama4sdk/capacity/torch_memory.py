"""Memory of the torch engine on one device, part by part: for its own offers, and for comparisons of engines. Pure.

Weights and cache are exact. Workspace and runtime are modelled, and checked against what a process was seen to take
(``benchmarks/memory.py``). Requests that are answered at once share steps: each has a cache of its own, and all of them
one workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import class_bytes, kv_cache_bytes, linears
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig

#: The kind of memory that a network lies in: the machine's, or an accelerator's.
MemoryKind: TypeAlias = Literal["cpu", "accelerator"]

#: Prompt tokens of one sequence that go through the network at once: bounds the memory of a long prompt.
PROMPT_BLOCK: Final = 512

#: Pairs of a token and one it may attend to that are masked at once: bounds the memory of a long context.
MAX_MASKED_PAIRS: Final = 2**23

#: Torch's own memory once it is imported, or a device's context with its libraries.
RUNTIME_BYTES: Final[Mapping[MemoryKind, int]] = {"cpu": 144 * 10**6, "accelerator": 512 * 2**20}

#: The tokenizer's bytes in the machine's memory, for each token of the vocabulary.
TOKENIZER_BYTES: Final = 500

#: Bytes between the pieces that an allocator was asked for, and those it keeps of what it got back.
ALLOCATOR_SLACK_BYTES: Final = 14 * 10**6

#: Bytes for each token of the vocabulary while one is sampled: its logit, as made and as float32, penalized, sorted
#: with its number, as probability and noise, as log-probability, and whether it was used before and is allowed.
SAMPLING_BYTES: Final = 40

#: Bytes of a logit of one more request in a step: as made, as float32, and whether the token was used before.
LOGIT_BYTES: Final = 9

#: The pieces in which quantized weights are unpacked, 2**18 values at a time, several times over.
UNPACKING_BYTES: Final = 6 * 2**20

#: Bytes of a logit while a text is scored: as made, as float32 and as log-probability, with those of the rows before,
#: which an allocator may keep.
SCORING_BYTES: Final = 24

#: Activations of the tiles that are encoded at once, in the published network and float32.
VISION_WORKSPACE_BYTES: Final = 512 * 2**20

#: The least number of tokens by which a cache grows.
CACHE_GRAIN: Final = 64


def cache_room(tokens: int, limit: int) -> int:
    """Tokens that memory is taken for when a cache must hold ``tokens``: at most 25% or 64 more, never over ``limit``.

    Depends on nothing else, so what a cache takes is known before it grows.
    """
    grains = -(-tokens // CACHE_GRAIN)
    step = 1 << max(0, grains.bit_length() - 3)
    return min(limit, -(-grains // step) * step * CACHE_GRAIN)


def memory_breakdown(
    config: TextConfig,
    precision: Quantization | QuantizationConfig,
    context: int,
    *,
    batch: int = 1,
    memory_kind: MemoryKind = "cpu",
    vision: int = 0,
    text: Mapping[ModuleClass, int] | None = None,
    loading: int = 0,
) -> dict[str, int]:
    """Bytes of the weights by class, of the caches of ``batch`` sequences, of working memory and of the runtime.

    ``vision`` is the number of the vision network's parameters; ``text`` the bytes of the text network's weights, where
    they differ from those of its sizes; ``loading`` the bytes at the fullest moment of loading, weights included.
    """
    scheme = QuantizationConfig.of(precision)
    width = scheme.dtype.bits // 8
    weights = class_bytes(config, scheme) if text is None else text
    cache = kv_cache_bytes(config, context, value_bytes=width, chunk_aware=True) * batch
    parts = {**{str(part): size for part, size in weights.items()}, "vision": vision * width, "kv_cache": cache}
    unpacking = loading - sum(parts.values()) if memory_kind == "cpu" else 0  # the host unpacks for a device
    workspace = workspace_bytes(config, scheme, context, batch=batch, memory_kind=memory_kind, vision=vision > 0)
    parts |= {"workspace": max(workspace, unpacking), "runtime": runtime_bytes(config, memory_kind)}
    return {part: size for part, size in parts.items() if size}


def runtime_bytes(config: TextConfig, memory_kind: MemoryKind) -> int:
    """Bytes taken whatever is loaded: libraries or a device's context, and, on the host, the tokenizer."""
    return RUNTIME_BYTES[memory_kind] + (TOKENIZER_BYTES * config.vocab_size if memory_kind == "cpu" else 0)


def workspace_bytes(
    config: TextConfig, scheme: QuantizationConfig, context: int, *, batch: int, memory_kind: MemoryKind, vision: bool
) -> int:
    """A prompt block's activations and masks, one layer's old cache while it grows, one matrix's values, the logits.

    A step works on one block at a time; of ``batch`` requests it makes as many rows of logits.
    """
    width = scheme.dtype.bits // 8
    block = min(PROMPT_BLOCK, context)
    growing = kv_cache_bytes(config, context, value_bytes=width) // config.num_layers
    masks = _mask_bytes(config, block, context, width, memory_kind)
    request = _activation_bytes(config, block, width) + masks + growing
    request += _unpacked_bytes(config, scheme) + SAMPLING_BYTES * config.vocab_size + ALLOCATOR_SLACK_BYTES
    logits = LOGIT_BYTES * config.vocab_size * (batch - 1)
    return max(request, VISION_WORKSPACE_BYTES if vision else 0) + logits


def scored_rows(config: TextConfig, value_bytes: int) -> int:
    """Tokens whose logits are made at once while a text is scored: as many as a block's activations have room for."""
    room = _activation_bytes(config, PROMPT_BLOCK, value_bytes)
    return max(1, min(PROMPT_BLOCK, room // (SCORING_BYTES * config.vocab_size)))


def _activation_bytes(c: TextConfig, block: int, width: int) -> int:
    heads = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    inner = max(c.dense_size, c.expert_size)
    return block * (6 * c.hidden_size + 4 * heads + 4 * inner) * width


def _mask_bytes(c: TextConfig, block: int, context: int, width: int, memory_kind: MemoryKind) -> int:
    """Masks as truth values, one for each kind of layer, and as what is added to the scores; there is none at first.

    An accelerator may have no kernel for them, and then holds the scores themselves, before and after.
    """
    if context <= block:
        return 0
    pairs = min(block * context, MAX_MASKED_PAIRS)
    scores = 0 if memory_kind == "cpu" else 2 * c.num_heads * pairs * width
    return pairs * (2 + width) + scores


def _unpacked_bytes(c: TextConfig, scheme: QuantizationConfig) -> int:
    """The largest matrix whose values are made while it is used; queries, keys and values are one, gate and up too."""
    outputs: dict[ModuleClass, int] = {
        "attention": (c.num_heads + 2 * c.num_kv_heads) * c.head_dim,
        "experts": 2 * c.expert_size,
        "shared_expert": 2 * c.expert_size,
        "dense": 2 * c.dense_size,
        "head": c.vocab_size,
    }
    present = {"head", *(matrix.module for matrix in linears(c) if matrix.count)}
    unpacked = [size for part, size in outputs.items() if part in present and not scheme.scheme(part).full_precision]
    return max(unpacked) * c.hidden_size * scheme.dtype.bits // 8 + UNPACKING_BYTES if unpacked else 0
