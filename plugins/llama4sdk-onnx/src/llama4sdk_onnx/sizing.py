"""The memory of an export on a device, part by part. Pure.

Weights have the sizes of their files, and caches are exact. Workspace and runtime are modelled and compared with
measured processes: their private pages at the peak of loading, answering and scoring a full context, for exports of the
demo model and of a network of half a billion parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from llama4sdk.capacity.torch_memory import PROMPT_BLOCK, MemoryKind
from llama4sdk.llama4.sizes import class_bytes, kv_cache_bytes
from llama4sdk.quantization import ModuleClass, Quantization
from llama4sdk_onnx.manifest import Manifest

#: Prefixes of the paths of files with weights, and of those of the vision network.
WEIGHTS_PREFIX: Final = "weights/"
VISION_PREFIX: Final = "weights/vision"

#: Bytes of ONNX Runtime once it is imported, or of a device's context with its libraries.
RUNTIME_BYTES: Final[Mapping[MemoryKind, int]] = {"cpu": 22 * 10**6, "accelerator": 512 * 2**20}

#: Bytes of a token of the vocabulary in the tokenizer.
TOKENIZER_ENTRY_BYTES: Final = 500

#: The share by which weights grow when kernels pack them anew.
REPACKING_SHARE: Final[Mapping[Quantization, float]] = {Quantization.INT4: 0.06, Quantization.INT8: 0.035}

#: Bytes of logits that are computed together while a text is scored.
MAX_LOGITS_BYTES: Final = 64 * 2**20

#: Bytes of the activations of the tiles that are encoded together, in the published network and float32.
VISION_WORKSPACE_BYTES: Final = 512 * 2**20

#: Bytes of a token of the vocabulary while one of them is sampled.
SAMPLED_TOKEN_BYTES: Final = 40

#: The share of a block's activations that exist at the same time.
LIVE_ACTIVATIONS_SHARE: Final = 0.8


def memory_breakdown(manifest: Manifest, context: int, *, batch: int, memory_kind: MemoryKind) -> dict[str, int]:
    """Bytes of the weights by class, of the caches of ``batch`` sequences, of work space and of the runtime."""
    config, value_bytes = manifest.config, _value_bytes(manifest)
    copies = 1 if manifest.kind == "fast" else 2  # portable graphs copy the past into the present
    parts: dict[str, int] = {str(part): size for part, size in weight_bytes(manifest).items()}
    if memory_kind == "cpu" and not config.tied_embeddings:
        parts.pop("embedding", None)  # rows are read from the mapped file, whose pages the system may drop
    parts["kv_cache"] = kv_cache_bytes(config, context, value_bytes=value_bytes, chunk_aware=True) * batch * copies
    parts["workspace"] = _repacking_bytes(manifest) + _workspace_bytes(manifest, context, batch, memory_kind)
    parts["runtime"] = RUNTIME_BYTES[memory_kind] + (
        TOKENIZER_ENTRY_BYTES * config.vocab_size if memory_kind == "cpu" else 0
    )
    return {part: size for part, size in parts.items() if size}


def weight_bytes(manifest: Manifest) -> dict[ModuleClass, int]:
    """Bytes of the weights by class, in the proportions of the matrices' sizes; together those of the files."""
    sizes = {name: record.size for name, record in manifest.files.items() if name.startswith(WEIGHTS_PREFIX)}
    vision = sum(size for name, size in sizes.items() if name.startswith(VISION_PREFIX))
    left = sum(sizes.values()) - vision
    computed = class_bytes(manifest.config, manifest.quantization)
    computed_left = sum(computed.values())
    weights: dict[ModuleClass, int] = {"vision": vision} if vision else {}
    for module, size in computed.items():  # each its share of what is left, so that nothing is lost to rounding
        weights[module] = left * size // computed_left
        left, computed_left = left - weights[module], computed_left - size
    return weights


def _repacking_bytes(manifest: Manifest) -> int:
    scheme = manifest.quantization.experts if manifest.config.moe_layers else manifest.quantization.dense
    return int(REPACKING_SHARE.get(scheme, 0.0) * sum(weight_bytes(manifest).values()))


def _workspace_bytes(manifest: Manifest, context: int, batch: int, memory_kind: MemoryKind) -> int:
    """Bytes of a prompt block's activations, of one layer's caches while they grow, and of logits.

    On processors there are an attention's scores as well. Logits are those of all sequences that sample together, or of
    the rows of a text that is scored.
    """
    c, width = manifest.config, _value_bytes(manifest)
    block = min(PROMPT_BLOCK, context)
    heads = (c.num_heads + 2 * c.num_kv_heads) * c.head_dim
    inner = max(c.dense_size, c.expert_size)
    activations = int(LIVE_ACTIVATIONS_SHARE * block * (6 * c.hidden_size + 4 * heads + 4 * inner) * width)
    attention = c.num_heads * block * context * width if memory_kind == "cpu" else 0
    growing = kv_cache_bytes(c, context, value_bytes=width) * batch // c.num_layers
    logits = max(SAMPLED_TOKEN_BYTES * c.vocab_size * batch, min(MAX_LOGITS_BYTES, 4 * c.vocab_size * block))
    return max(activations + attention, VISION_WORKSPACE_BYTES if manifest.vision else 0) + growing + logits


def _value_bytes(manifest: Manifest) -> int:
    return manifest.quantization.dtype.bits // 8
