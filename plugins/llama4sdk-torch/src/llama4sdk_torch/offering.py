"""What a model would need where. Pure, and free of torch: any machine can be asked about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, get_args

from llama4sdk.backend import Capabilities, Need, Offer, Unavailable
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.config import TextConfig
from llama4sdk.planning.candidates import part_alone
from llama4sdk.planning.engines import find_engine
from llama4sdk.planning.plan import Breakdown, Placement
from llama4sdk.planning.policy import Preference
from llama4sdk.planning.quantization import LINEAR, ModuleClass, Quantization, QuantizationConfig
from llama4sdk.planning.speed import decode_speed
from llama4sdk.text import gb
from llama4sdk_torch.sizing import Site, memory_breakdown

__all__ = ["Subject", "make_offer"]

USUAL_CONTEXT: Final = 8192
"""Tokens a cache is planned for when nobody asks: a conversation, and one chunk of Llama 4."""

LEAST_CONTEXT: Final = 512
SHORT: Final = 512
"""Tokens before the answer whose speed is predicted."""

NO_WEIGHTS: Final = ("kv_cache", "workspace", "runtime")

SMALL: Final = 4 * 10**9
"""A quantized file is unpacked to float32 when that takes no more than this."""

RUNNABLE: Final = (Quantization.FP32, Quantization.BF16)

FP8_SINCE: Final = (8, 9)
"""The compute capability from which NVIDIA's devices calculate with fp8 themselves."""

Precision: TypeAlias = Quantization | QuantizationConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model in question. ``source`` is ``None`` when it is not on this machine."""

    model: str
    source: Path | None
    config: TextConfig
    precision: Precision
    """What it is held in unless the caller chooses, or there is no room for it."""
    capabilities: Capabilities | None = None
    vision_parameters: int = 0
    text_bytes: Callable[[Precision], Mapping[ModuleClass, int]] | None = None
    """Bytes of its text network in memory by class; ``None`` where the estimate from its sizes is exact."""

    def breakdown(self, precision: Precision, context: int, site: Site) -> dict[str, int]:
        """Bytes that a device must have room for, part by part."""
        text = None if self.text_bytes is None else self.text_bytes(precision)
        vision = self.vision_parameters
        return memory_breakdown(self.config, precision, context, site=site, vision=vision, text=text)

    def memory(self, precision: Precision, context: int, site: Site) -> int:
        """All of it."""
        return sum(self.breakdown(precision, context, site).values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    device: str
    free: int
    fp8: bool = False

    @property
    def site(self) -> Site:
        """What kind of place it is."""
        return "cpu" if self.device == "cpu" else "accelerator"


class _Way(NamedTuple):
    precision: Precision
    place: _Place
    context: int
    why: str | None


def make_offer(subject: Subject, need: Need, hardware: Hardware) -> Offer | Unavailable:
    """The best place that has room at the best precision that has a place, or how much is missing where."""
    if refusal := _impossible(subject, need):
        return refusal
    places = [place for place in _places(hardware) if _matches(place.device, need.device)]
    choices = [need.quantization] if need.quantization else _choices(subject.precision)
    ways = [way for group in _groups(places, need.prefer) for way in _ways(subject, choices, group, need)]
    if not ways:
        return _no_room(subject, choices[-1], need, places, hardware)
    way = max(ways, key=lambda way: way.context) if need.prefer == "context" else ways[0]  # the first of the longest
    offer = _offer(subject, way.precision, way.place, way.context, None if need.quantization else way.why)
    return offer.model_copy(update={"tokens_per_second": _speed(subject, way, offer.breakdown, hardware)})


def _groups(places: list[_Place], prefer: Preference) -> list[list[_Place]]:
    """Places that are tried together, precision by precision: for quality all, else accelerators before memory."""
    if prefer == "quality":
        return [places]
    return [[place for place in places if (place.device == "cpu") is last] for last in (False, True)]


def _ways(subject: Subject, choices: Sequence[Precision], places: Sequence[_Place], need: Need) -> Iterator[_Way]:
    """What has room, best precision first."""
    for number, choice in enumerate(choices):
        for place in places:
            precision = Quantization.FP8 if choice is Quantization.INT8 and place.fp8 and number else choice
            context = need.context_length or _context_that_fits(subject, precision, place, prefer=need.prefer)
            if context and subject.memory(precision, context, place.site) <= place.free:
                yield _Way(precision, place, context, _why(subject, choices[:number], need, places))


def _context_that_fits(
    subject: Subject, precision: Precision, place: _Place, *, prefer: Preference = "balanced"
) -> int:
    """The usual context, or half of it, and so on; the longest where that is preferred; 0 when nothing fits."""

    def fits(context: int) -> bool:
        return subject.memory(precision, context, place.site) <= place.free

    longest = subject.config.max_context
    if prefer == "context":
        return bisect_left(range(longest), 1, key=lambda tokens: not fits(tokens + 1))
    context = min(longest, USUAL_CONTEXT)
    while not fits(context) and context > LEAST_CONTEXT:
        context //= 2
    return context if fits(context) else 0


def _choices(precision: Precision) -> list[Precision]:
    """What is tried when nobody asks: as it is, then ever fewer bits."""
    ladder = [Quantization.FP32, Quantization.BF16, Quantization.INT8, Quantization.INT4]
    config = QuantizationConfig.of(precision)
    bits = min(config.scheme(module).bits for module in LINEAR)
    return [precision, *(scheme for scheme in ladder if scheme.bits < bits)]


def _impossible(subject: Subject, need: Need) -> Unavailable | None:
    """What no machine would change."""
    chosen = QuantizationConfig.of(need.quantization or subject.precision)
    if chosen.dtype not in RUNNABLE:
        return Unavailable(
            reason=f"it calculates in fp32 and bf16, not {chosen.dtype}.",
            fix="Pass quantization='bf16', or leave the choice open.",
        )
    if subject.config.tied_embeddings and chosen.head is not chosen.embedding:
        return Unavailable(
            reason=f"the embedding and the head of '{subject.model}' are one matrix, which cannot be held in two ways.",
            fix="Give 'embedding' and 'head' the same scheme.",
        )
    longest = subject.config.max_context
    if need.context_length is not None and need.context_length > longest:
        return Unavailable(
            reason=f"the context of '{subject.model}' is {longest} tokens; {need.context_length} were asked.",
            fix=f"Ask for a context_length of at most {longest}.",
        )
    return None


def _places(hardware: Hardware) -> Iterator[_Place]:
    """Accelerators torch can drive, the emptiest first; then the processor."""
    usable = [device for device in hardware.devices if device.kind in ("cuda", "rocm")]
    for device in sorted(usable, key=lambda device: -hardware.free_on(device)):
        fp8 = device.kind == "cuda" and (device.compute_capability or (0, 0)) >= FP8_SINCE
        yield _Place(device=device.id, free=hardware.free_on(device), fp8=fp8)
    yield _Place(device="cpu", free=hardware.free_memory)


def _matches(device: str, wanted: str | None) -> bool:
    """``cuda`` means any of them."""
    return wanted is None or wanted in (device, device.partition(":")[0])


def _offer(subject: Subject, precision: Precision, place: _Place, context: int, why: str | None) -> Offer:
    parts = subject.breakdown(precision, context, place.site)
    size = sum(parts.values())
    chosen = QuantizationConfig.of(precision)
    held = f"{precision}" if chosen.full_precision else f"{precision} (activations {chosen.dtype})"
    return Offer(
        model=subject.model,
        source=None if subject.source is None else str(subject.source),
        placement=Placement(kind="local", devices=(place.device,)),
        quantization=precision,
        quantization_reason=why,
        context_length=context,
        memory={place.device: size},
        breakdown={place.device: parts},
        weight_bytes=size - sum(parts[part] for part in NO_WEIGHTS),
        capabilities=subject.capabilities,
        reason=f"{held} with {context} tokens of context takes {gb(size)} of {gb(place.free)} on {place.device}",
    )


def _speed(subject: Subject, way: _Way, breakdown: Breakdown, hardware: Hardware) -> float | None:
    """Tokens per second of one answer behind a short prompt: the middle of what is predicted."""
    chosen = QuantizationConfig.of(way.precision)
    schemes = {chosen.scheme(module) for module in LINEAR}
    slowest = min(schemes, key=lambda scheme: scheme.bits)
    part = part_alone(hardware, find_engine("torch"), way.place.device, slowest.value)
    if part is None:
        return None
    parts: dict[ModuleClass, int] = {
        module: size for module in get_args(ModuleClass) if (size := breakdown[way.place.device].get(module))
    }
    short = min(way.context, SHORT)
    width = chosen.dtype.bits / 8
    return decode_speed(subject.config, parts, [part], context=short, value_bytes=width).middle


def _why(subject: Subject, tried: Sequence[Precision], need: Need, places: Sequence[_Place]) -> str | None:
    """Why not what is better; ``None`` where full precision was taken."""
    if not tried:
        as_stored = not subject.precision.full_precision
        return "it is what the checkpoint is stored in" if as_stored else None
    context = need.context_length or min(subject.config.max_context, LEAST_CONTEXT)
    most = max(places, key=lambda place: place.free)
    sizes = " and ".join(
        f"{precision} needs {gb(subject.memory(precision, context, most.site))}" for precision in tried
    )
    return f"{sizes}; {most.device} has {gb(most.free)} free"


def _no_room(
    subject: Subject, precision: Precision, need: Need, places: list[_Place], hardware: Hardware
) -> Unavailable:
    if not places:
        known = ", ".join(place.device for place in _places(hardware))
        return Unavailable(reason=f"there is no device '{need.device}' it can use.", fix=f"Choose among: {known}.")
    most = max(places, key=lambda place: place.free)
    context = need.context_length or min(subject.config.max_context, LEAST_CONTEXT)
    size = subject.memory(precision, context, most.site)
    even = "" if need.quantization or subject.precision == precision else "even "
    return Unavailable(
        reason=(
            f"'{subject.model}' {even}in {precision} with {context} tokens of context needs {gb(size)}; "
            f"{most.device} has {gb(most.free)} free."
        ),
        fix=_way_out(subject, precision, need, most, size),
        need_memory=size,
        have_memory=most.free,
    )


def _way_out(subject: Subject, precision: Precision, need: Need, place: _Place, size: int) -> str:
    shorter = _context_that_fits(subject, precision, place)
    if need.context_length is not None and shorter:
        return f"Ask for a context_length of {shorter}."
    for smaller in _choices(precision)[1:]:
        if _context_that_fits(subject, smaller, place):
            return f"Pass quantization='{smaller}', or leave the choice open."
    return f"Use a machine with {gb(size)} free in one place, or a smaller model."
