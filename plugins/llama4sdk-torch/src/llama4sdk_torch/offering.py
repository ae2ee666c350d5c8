"""What a model would need where. Pure, and free of torch: any machine can be asked about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llama4sdk.backend import Capabilities, Need, Offer, Unavailable
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.config import TextConfig
from llama4sdk.planning.estimate import kv_cache_bytes, weight_bytes
from llama4sdk.planning.plan import Placement, Quantization
from llama4sdk.text import gb

__all__ = ["Subject", "make_offer", "memory_bytes"]

USUAL_CONTEXT: Final = 8192
"""Tokens a cache is planned for when nobody asks: a conversation, and one chunk of Llama 4."""

LEAST_CONTEXT: Final = 512
BLOCK: Final = 512
"""Prompt tokens that are in flight at once."""

RUNTIME: Final = 512 * 2**20
"""Torch's own libraries, or a device's context, in bytes."""

VISION_WORKSPACE: Final = 512 * 2**20
"""Activations of the tiles that are encoded at once, in the published network and float32."""

SMALL: Final = 4 * 10**9
"""A quantized file is unpacked to float32 when that takes no more than this."""

RUNNABLE: Final = (Quantization.FP32, Quantization.BF16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model in question. ``source`` is ``None`` when it is not on this machine."""

    model: str
    source: Path | None
    config: TextConfig
    precision: Quantization
    """What it is held in unless the caller chooses."""
    capabilities: Capabilities | None = None
    vision_parameters: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    device: str
    free: int


def make_offer(subject: Subject, need: Need, hardware: Hardware) -> Offer | Unavailable:
    """The best place that has room, or how much is missing where there is most."""
    precision = need.quantization or subject.precision
    if precision not in RUNNABLE:
        return Unavailable(
            reason=f"it runs fp32 and bf16, not {precision}.", fix="Pass quantization='bf16', or leave the choice open."
        )
    longest = subject.config.max_context
    if need.context_length is not None and need.context_length > longest:
        return Unavailable(
            reason=f"the context of '{subject.model}' is {longest} tokens; {need.context_length} were asked.",
            fix=f"Ask for a context_length of at most {longest}.",
        )
    places = [place for place in _places(hardware) if _matches(place.device, need.device)]
    for place in places:
        context = need.context_length or _context_that_fits(subject, precision, place.free)
        if context and memory_bytes(subject.config, precision, context, vision=subject.vision_parameters) <= place.free:
            return _offer(subject, precision, place, context)
    return _no_room(subject, precision, need, places, hardware)


def memory_bytes(config: TextConfig, precision: Quantization, context: int, *, vision: int = 0) -> int:
    """Everything a device must have room for: weights, the cache of one sequence, work space, the runtime.

    ``vision`` is the number of the vision network's parameters.
    """
    width = precision.bits // 8
    weights = weight_bytes(config, precision, other_parameters=vision)
    cache = kv_cache_bytes(config, context, value_bytes=width, chunk_aware=True)
    growing = kv_cache_bytes(config, context, value_bytes=width) // config.num_layers  # one layer's, old and new
    workspace = max(_workspace(config, context), VISION_WORKSPACE if vision else 0)
    return weights + cache + growing + workspace + RUNTIME


def _workspace(config: TextConfig, context: int) -> int:
    """A prompt block's activations and mask, the scores of one token, and one tensor on its way in (float32)."""
    heads = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    inner = max(config.dense_size, config.expert_size)
    activations = BLOCK * (6 * config.hidden_size + 4 * heads + 4 * inner) * 4
    return activations + BLOCK * context + 4 * config.vocab_size * 4 + config.vocab_size * config.hidden_size * 4


def _context_that_fits(subject: Subject, precision: Quantization, free: int) -> int:
    """The usual context, or half of it, and so on; 0 when not even the least fits."""
    context = min(subject.config.max_context, USUAL_CONTEXT)

    def size() -> int:
        return memory_bytes(subject.config, precision, context, vision=subject.vision_parameters)

    while size() > free and context > LEAST_CONTEXT:
        context //= 2
    return context if size() <= free else 0


def _places(hardware: Hardware) -> Iterator[_Place]:
    """Accelerators torch can drive, the emptiest first; then the processor."""
    usable = [device for device in hardware.devices if device.kind in ("cuda", "rocm")]
    for device in sorted(usable, key=lambda device: -device.free_memory):
        yield _Place(device=device.id, free=device.free_memory)
    yield _Place(device="cpu", free=hardware.free_memory)


def _matches(device: str, wanted: str | None) -> bool:
    """``cuda`` means any of them."""
    return wanted is None or wanted in (device, device.partition(":")[0])


def _offer(subject: Subject, precision: Quantization, place: _Place, context: int) -> Offer:
    size = memory_bytes(subject.config, precision, context, vision=subject.vision_parameters)
    return Offer(
        model=subject.model,
        source=None if subject.source is None else str(subject.source),
        placement=Placement(kind="local", devices=(place.device,)),
        quantization=precision,
        context_length=context,
        memory={place.device: size},
        capabilities=subject.capabilities,
        reason=f"{precision} with {context} tokens of context takes {gb(size)} of {gb(place.free)} on {place.device}",
    )


def _no_room(
    subject: Subject, precision: Quantization, need: Need, places: list[_Place], hardware: Hardware
) -> Unavailable:
    if not places:
        known = ", ".join(place.device for place in _places(hardware))
        return Unavailable(reason=f"there is no device '{need.device}' it can use.", fix=f"Choose among: {known}.")
    most = max(places, key=lambda place: place.free)
    context = need.context_length or min(subject.config.max_context, LEAST_CONTEXT)
    size = memory_bytes(subject.config, precision, context, vision=subject.vision_parameters)
    return Unavailable(
        reason=(
            f"'{subject.model}' in {precision} with {context} tokens of context needs {gb(size)}; "
            f"{most.device} has {gb(most.free)} free."
        ),
        fix=_way_out(subject, precision, need, most, size),
        need_memory=size,
        have_memory=most.free,
    )


def _way_out(subject: Subject, precision: Quantization, need: Need, place: _Place, size: int) -> str:
    shorter = _context_that_fits(subject, precision, place.free)
    if need.context_length is not None and shorter:
        return f"Ask for a context_length of {shorter}."
    if precision is Quantization.FP32 and _context_that_fits(subject, Quantization.BF16, place.free):
        return "Pass quantization='bf16'."
    return f"Use a machine with {gb(size)} free in one place, or a smaller model."
