"""What an export takes of a device, part by part. Pure.

Weights are the sizes of their files and caches are exact. Workspace and runtime are modelled, and held to what a
process was seen to take: its private pages at their peak, over loading, answering and scoring a full context, for
exports of the demo model and of a network of half a billion parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llama4sdk.capacity.torch_memory import BLOCK, Place
from llama4sdk.llama4.sizes import class_bytes, kv_cache_bytes
from llama4sdk.quantization import ModuleClass, Quantization
from llama4sdk_onnx.manifest import Manifest

__all__ = ["SCORED", "memory_breakdown", "weight_bytes"]

WEIGHTS: Final = "weights/"
VISION: Final = "weights/vision"
"""How the paths of files begin that hold weights, and those of the vision network."""

RUNTIME: Final[Mapping[Place, int]] = {"cpu": 22 * 10**6, "accelerator": 512 * 2**20}
"""ONNX Runtime's own memory once it is imported, or a device's context with its libraries, in bytes."""

TOKENIZER: Final = 500
"""Bytes of the machine's memory that a token of the vocabulary takes."""

REPACKED: Final[Mapping[Quantization, float]] = {Quantization.INT4: 0.06, Quantization.INT8: 0.035}
"""The share by which weights grow when kernels arrange them as they want them."""

SCORED: Final = 64 * 2**20
"""Bytes of logits that are made at once while a text is scored."""

VISION_WORKSPACE: Final = 512 * 2**20
"""Activations of the tiles that are encoded at once, in the published network and float32."""

DRAWN: Final = 40
"""Bytes of a token of the vocabulary while one is drawn from all."""

BUSY: Final = 0.8
"""The share of a block's activations that is held at once."""


def memory_breakdown(manifest: Manifest, context: int, *, batch: int, place: Place) -> dict[str, int]:
    """Bytes of the weights by class, of the caches of ``batch`` sequences, of work space and of the runtime."""
    config, width = manifest.config, _width(manifest)
    copies = 1 if manifest.kind == "fast" else 2  # portable graphs write what they were given anew
    parts: dict[str, int] = {str(part): size for part, size in weight_bytes(manifest).items()}
    if place == "cpu" and not config.tied_embeddings:
        parts.pop("embedding", None)  # its rows are read from the mapped file, which the system may take back
    parts["kv_cache"] = kv_cache_bytes(config, context, value_bytes=width, chunk_aware=True) * batch * copies
    parts["workspace"] = _repacked(manifest) + _workspace(manifest, context, batch, place)
    parts["runtime"] = RUNTIME[place] + (TOKENIZER * config.vocab_size if place == "cpu" else 0)
    return {part: size for part, size in parts.items() if size}


def weight_bytes(manifest: Manifest) -> dict[ModuleClass, int]:
    """The weights as they lie in files, by class: as the sizes of matrices say, together what the files have."""
    sizes = {name: record.size for name, record in manifest.files.items() if name.startswith(WEIGHTS)}
    vision = sum(size for name, size in sizes.items() if name.startswith(VISION))
    left = sum(sizes.values()) - vision
    computed = class_bytes(manifest.config, manifest.quantization)
    rest = sum(computed.values())
    held: dict[ModuleClass, int] = {"vision": vision} if vision else {}
    for part, size in computed.items():  # each its share of what is left, so that nothing is lost to rounding
        held[part] = left * size // rest
        left, rest = left - held[part], rest - size
    return held


def _repacked(manifest: Manifest) -> int:
    scheme = manifest.quantization.experts if manifest.config.moe_layers else manifest.quantization.dense
    return int(REPACKED.get(scheme, 0.0) * sum(weight_bytes(manifest).values()))


def _workspace(manifest: Manifest, context: int, batch: int, place: Place) -> int:
    """A prompt block's activations and, on processors, its attention's scores; one layer's caches while they grow.

    And the logits: of all that are drawn at once, or of the rows of a text that is scored.
    """
    c, width = manifest.config, _width(manifest)
    block = min(BLOCK, context)
    heads = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    inner = max(c.dense_size, c.expert_size)
    activations = int(BUSY * block * (6 * c.hidden_size + 4 * heads + 4 * inner) * width)
    attention = c.num_heads * block * context * width if place == "cpu" else 0
    growing = kv_cache_bytes(c, context, value_bytes=width) * batch // c.num_layers
    logits = max(DRAWN * c.vocab_size * batch, min(SCORED, 4 * c.vocab_size * block))
    return max(activations + attention, VISION_WORKSPACE if manifest.vision else 0) + growing + logits


def _width(manifest: Manifest) -> int:
    return manifest.quantization.dtype.bits // 8
