"""What the torch engine takes of a device, part by part: for its own offers, and where engines are compared. Pure.

Weights and cache are exact. Workspace and runtime are modelled, and held to what a process was seen to take
(``benchmarks/memory.py``). Requests that are answered at once go through the network each for itself, so each has a
cache and a workspace of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import class_bytes, kv_cache_bytes, linears
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig

__all__ = [
    "ATTENDED",
    "BLOCK",
    "PIECES",
    "RUNTIME",
    "Place",
    "memory_breakdown",
    "runtime_bytes",
    "scored_rows",
    "workspace_bytes",
]

Place: TypeAlias = Literal["cpu", "accelerator"]

BLOCK: Final = 512
"""Prompt tokens of one sequence that go through the network at once: bounds the memory of a long prompt."""

ATTENDED: Final = 2**23
"""Pairs of a token and what it may see that are masked at once: bounds the memory of a long context."""

RUNTIME: Final[Mapping[Place, int]] = {"cpu": 144 * 10**6, "accelerator": 512 * 2**20}
"""Torch's own memory once it is imported, or a device's context with its libraries, in bytes."""

TOKENIZER: Final = 500
"""Bytes of the machine's memory that a token of the vocabulary takes."""

SLACK: Final = 14 * 10**6
"""What lies between the pieces that an allocator was asked for, and what it keeps of those it got back."""

DRAWN: Final = 40
"""Bytes of a token of the vocabulary while one is drawn from all: its logit, as made and as float32, penalized, sorted
with its number, as probability and noise, as log-probability, and whether it was seen and is allowed."""

PIECES: Final = 6 * 2**20
"""The pieces in which codes become values, 2**18 at a time, several times over."""

SCORED: Final = 24
"""Bytes of a logit while a text is scored: as made, as float32 and as log-probability, with those of the rows before,
which an allocator may keep."""

VISION_WORKSPACE: Final = 512 * 2**20
"""Activations of the tiles that are encoded at once, in the published network and float32."""


def memory_breakdown(
    config: TextConfig,
    precision: Quantization | QuantizationConfig,
    context: int,
    *,
    batch: int = 1,
    place: Place = "cpu",
    vision: int = 0,
    text: Mapping[ModuleClass, int] | None = None,
    loading: int = 0,
) -> dict[str, int]:
    """Bytes of the weights by class, of the caches of ``batch`` sequences, of work space and of the runtime.

    ``vision`` is the number of the vision network's parameters; ``text`` the bytes of the text network's weights, where
    they are not what its sizes say; ``loading`` what the fullest moment of loading takes, weights included.
    """
    chosen = QuantizationConfig.of(precision)
    width = chosen.dtype.bits // 8
    weights = class_bytes(config, chosen) if text is None else text
    parts = {
        **{str(part): size for part, size in weights.items()},
        "vision": vision * width,
        "kv_cache": kv_cache_bytes(config, context, value_bytes=width, chunk_aware=True) * batch,
    }
    unpacked = loading - sum(parts.values()) if place == "cpu" else 0  # a host unpacks what a device gets
    work = workspace_bytes(config, chosen, context, batch=batch, place=place, vision=vision > 0)
    parts |= {"workspace": max(work, unpacked), "runtime": runtime_bytes(config, place)}
    return {part: size for part, size in parts.items() if size}


def runtime_bytes(config: TextConfig, place: Place) -> int:
    """What is taken whatever is loaded: libraries or a device's context, and, on the host, the tokenizer."""
    return RUNTIME[place] + (TOKENIZER * config.vocab_size if place == "cpu" else 0)


def workspace_bytes(
    config: TextConfig, chosen: QuantizationConfig, context: int, *, batch: int, place: Place, vision: bool
) -> int:
    """A prompt block's activations and masks, one layer's old cache while it grows, one matrix's values, the logits.

    Of ``batch`` requests at once.
    """
    width = chosen.dtype.bits // 8
    block = min(BLOCK, context)
    growing = kv_cache_bytes(config, context, value_bytes=width) // config.num_layers
    one = _activations(config, block, width) + _masked(config, block, context, width, place) + growing
    one += _dequantized(config, chosen) + DRAWN * config.vocab_size + SLACK
    return max(one, VISION_WORKSPACE if vision else 0) * batch


def scored_rows(config: TextConfig, value_bytes: int) -> int:
    """Tokens whose logits are made at once while a text is scored: as many as a block's activations have room for."""
    room = _activations(config, BLOCK, value_bytes)
    return max(1, min(BLOCK, room // (SCORED * config.vocab_size)))


def _activations(c: TextConfig, block: int, width: int) -> int:
    heads = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    inner = max(c.dense_size, c.expert_size)
    return block * (6 * c.hidden_size + 4 * heads + 4 * inner) * width


def _masked(c: TextConfig, block: int, context: int, width: int, place: Place) -> int:
    """Masks as truth values, one for each kind of layer, and as what is added to the scores; there is none at first.

    An accelerator may have no kernel for them, and then holds the scores themselves, before and after.
    """
    if context <= block:
        return 0
    pairs = min(block * context, ATTENDED)
    scores = 0 if place == "cpu" else 2 * c.num_heads * pairs * width
    return pairs * (2 + width) + scores


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
    return max(made) * c.hidden_size * chosen.dtype.bits // 8 + PIECES if made else 0
