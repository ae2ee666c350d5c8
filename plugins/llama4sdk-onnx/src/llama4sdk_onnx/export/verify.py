"""Compare an exported graph with the native engine on a prompt."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from llama4sdk._installed import missing
from llama4sdk._text import gb
from llama4sdk.errors import ExportError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.probe import memory
from llama4sdk.quantization import LINEAR, Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk_onnx.manifest import GRAPH, Manifest

#: How much logits may differ from the native engine's. With quantized weights ONNX Runtime also rounds activations, to
#: 8 or 15 bits, which the native engine does not do.
TOLERANCES: Final = {
    Quantization.FP32: 1e-3,
    Quantization.FP16: 0.05,
    Quantization.INT8: 0.1,
    Quantization.INT4: 0.2,
}

PROMPT: Final = (
    "A herd of llamas walks up the valley in single file, each with a small load of salt on its back. The herder at "
    "the front knows all of them by name, and stops where the path divides. In 1998 there were 240 animals; today, "
    'after three dry years, she counts only 61. "We go left," she says, and the oldest one has already turned.'
)
#: Tokens of the prompt, unless a chunk border is near.
PROMPT_TOKENS: Final = 48
#: The prompt goes past the border of chunks of at most so many tokens.
MAX_CROSSED_CHUNK: Final = 256
TOKENS_PAST_BORDER: Final = 16
#: Bytes that are read between two releases of the checkpoint's mapped memory.
RELEASE_INTERVAL_BYTES: Final = 2**27
NATIVE_MODULES: Final = ("torch", "llama4sdk_torch")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The difference by ``logit_difference``; ``None``, with the reason, where nothing was compared."""

    difference: float | None = None
    reason: str | None = None


def verify_export(folder: Path, manifest: Manifest, checkpoint: Checkpoint) -> Verification:
    """Run the graph in ``folder`` and the checkpoint one after the other, where this machine can.

    Raises ExportError naming the difference when they do not agree.
    """
    if reason := _obstacle(manifest, checkpoint):
        return Verification(reason=reason)
    ids = prompt_ids(checkpoint.tokenizer(), manifest.config)
    ours = _exported_logits(folder, manifest, ids)
    gc.collect()  # free the session's memory before the other network is loaded
    theirs = _native_logits(checkpoint, manifest.quantization, ids)
    return Verification(difference=logit_difference(ours, theirs, manifest.quantization))


def prompt_ids(tokenizer: Tokenizer, config: TextConfig) -> list[int]:
    """Tokens of English, filled up with others where a vocabulary makes few of it; past a chunk border that is near."""
    chunk = config.chunk_size if config.chunked_layers else None
    count = chunk + TOKENS_PAST_BORDER if chunk is not None and chunk <= MAX_CROSSED_CHUNK else PROMPT_TOKENS
    others = (7 * index % config.vocab_size for index in range(count))
    return [*tokenizer.encode(PROMPT), *others][: min(count, config.max_context)]


def logit_difference(ours: Floats, theirs: Floats, quantization: QuantizationConfig) -> float:
    """The difference of logits [tokens, vocabulary] at the median token, as a share of their standard deviation.

    Raises ExportError when that is more than the tolerance.
    """
    difference = np.abs(ours - theirs)
    spread = theirs.std(1) + np.float32(1e-6)
    typical = float(np.median(np.sqrt(np.square(difference).mean(1)) / spread))
    tolerance = max(TOLERANCES[scheme] for scheme in (*map(quantization.scheme, LINEAR), quantization.dtype))
    if not typical <= tolerance:  # a NaN is no less
        raise ExportError(
            f"The graph does not compute what the native engine does: its logits differ by {typical:.2g} of their "
            f"spread, where {tolerance:.2g} is allowed, and at most by {difference.max():.3g}.",
            hint="This is a fault of the export, which is left without a manifest: please report it.",
        )
    return typical


def _obstacle(manifest: Manifest, checkpoint: Checkpoint) -> str | None:
    """The reason why this machine cannot compare; ``None`` where it can."""
    if lacking := missing(("onnxruntime", *NATIVE_MODULES)):
        return f"{lacking[0]} is not installed"
    if manifest.quantization.dtype is Quantization.FP16:
        return "the native engine has no fp16 on a CPU"
    sizes = [record.size for name, record in manifest.files.items() if name.startswith("weights/")]
    native = weight_bytes(checkpoint.config, manifest.quantization)
    needed, free = max(native, sum(sizes)) + max(sizes), memory.read().free
    return f"it takes {gb(needed)} of memory, of which {gb(free)} are free" if needed > free else None


def _exported_logits(folder: Path, manifest: Manifest, ids: Sequence[int]) -> Floats:
    from llama4sdk_onnx.network import TextNetwork
    from llama4sdk_onnx.sessions import open_session

    network = TextNetwork(open_session(folder / GRAPH), manifest, context=len(ids))
    try:
        with network.open() as sequence:
            return np.concatenate(list(sequence.logits(ids, range(len(ids)))))
    finally:
        network.close()


def _native_logits(checkpoint: Checkpoint, quantization: QuantizationConfig, ids: Sequence[int]) -> Floats:
    import torch
    from llama4sdk_torch.loading import load_model

    released = 0

    def read(done: int, total: int | None) -> None:
        nonlocal released
        if done - released >= RELEASE_INTERVAL_BYTES:
            checkpoint.release()  # the files' own memory, which would count beside the network's
            released = done

    model = load_model(checkpoint, device=torch.device("cpu"), quantization=quantization, progress=read)
    logits: Floats = model.logits(model.hidden(torch.tensor(ids), model.new_cache(len(ids)))).numpy()
    return logits
