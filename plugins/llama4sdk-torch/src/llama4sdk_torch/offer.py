"""What a model would need where. Pure, and free of torch: any machine can be asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, get_args

from llama4sdk._text import gb
from llama4sdk.backend import Capabilities, Need, Offer, Unavailable
from llama4sdk.capacity.contexts import MIN_CONTEXT, describe_context, fitting_context, largest_fitting
from llama4sdk.capacity.device_room import DeviceRoom, device_rooms, rooms_on
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.roofline import decode_speed
from llama4sdk.capacity.sites import whole_network
from llama4sdk.capacity.torch_memory import Place, memory_breakdown
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.config import TextConfig
from llama4sdk.plan import Breakdown, Placement, Preference
from llama4sdk.quantization import LINEAR, ModuleClass, Quantization, QuantizationConfig

__all__ = ["Subject", "make_offer"]

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
    loading_bytes: Callable[[Precision], int] | None = None
    """Bytes of all weights at the fullest moment of loading, with what is unpacked then; ``None`` where nothing is."""

    def breakdown(self, precision: Precision, context: int, batch: int, place: Place) -> dict[str, int]:
        """Bytes that a device must have room for, part by part."""
        return memory_breakdown(
            self.config,
            precision,
            context,
            batch=batch,
            place=place,
            vision=self.vision_parameters,
            text=None if self.text_bytes is None else self.text_bytes(precision),
            loading=0 if self.loading_bytes is None else self.loading_bytes(precision),
        )

    def memory(self, precision: Precision, context: int, batch: int, place: Place) -> int:
        """All of it."""
        return sum(self.breakdown(precision, context, batch, place).values())


class _Way(NamedTuple):
    precision: Precision
    spot: DeviceRoom
    context: int
    why: str | None


def make_offer(subject: Subject, need: Need, hardware: Hardware) -> Offer | Unavailable:
    """The best place that has room at the best precision that has a place, or how much is missing where."""
    if refusal := _impossible(subject, need):
        return refusal
    known = list(device_rooms(hardware, find_engine("torch")))
    found = rooms_on(known, need.device)
    choices = [need.quantization] if need.quantization else _choices(subject.precision)
    groups = _groups(found, need.prefer)
    ways: Iterator[_Way] = chain.from_iterable(_ways(subject, choices, group, need) for group in groups)
    if need.prefer == "context":
        ways = iter(sorted(ways, key=lambda way: -way.context))  # the first of the longest
    if (way := next(ways, None)) is None:
        return _no_room(subject, choices[-1], need, found, known)
    offer = _offer(subject, way, need)
    return offer.model_copy(update={"tokens_per_second": _speed(subject, way, offer.breakdown, hardware)})


def _groups(found: list[DeviceRoom], prefer: Preference) -> list[list[DeviceRoom]]:
    """Places that are tried together, precision by precision: for quality all, else accelerators before memory."""
    if prefer == "quality":
        return [found]
    return [[spot for spot in found if (spot.device == "cpu") is last] for last in (False, True)]


def _ways(subject: Subject, choices: Sequence[Precision], found: Sequence[DeviceRoom], need: Need) -> Iterator[_Way]:
    """What has room, best precision first."""
    for number, choice in enumerate(choices):
        for spot in found:
            precision = Quantization.FP8 if choice is Quantization.INT8 and _has_fp8(spot) and number else choice
            context = need.context_length or _context_that_fits(subject, precision, spot, need)
            if context and subject.memory(precision, context, need.batch, spot.place) <= spot.usable:
                yield _Way(precision, spot, context, _why(subject, choices[:number], need, found))


def _context_that_fits(subject: Subject, precision: Precision, spot: DeviceRoom, need: Need) -> int:
    """The usual context, or half of it, and so on; the longest where that is preferred; 0 when nothing fits."""

    def fits(context: int) -> bool:
        return subject.memory(precision, context, need.batch, spot.place) <= spot.usable

    return fitting_context(fits, subject.config.max_context, need.prefer)


def _has_fp8(spot: DeviceRoom) -> bool:
    device = spot.accelerator
    return device is not None and device.kind == "cuda" and (device.compute_capability or (0, 0)) >= FP8_SINCE


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


def _offer(subject: Subject, way: _Way, need: Need) -> Offer:
    precision, spot, context, why = way
    parts = subject.breakdown(precision, context, need.batch, spot.place)
    size = sum(parts.values())
    chosen = QuantizationConfig.of(precision)
    held = f"{precision}" if chosen.full_precision else f"{precision} (activations {chosen.dtype})"
    return Offer(
        model=subject.model,
        source=None if subject.source is None else str(subject.source),
        placement=Placement(kind="local", devices=(spot.device,)),
        quantization=precision,
        quantization_reason=None if need.quantization else why,
        context_length=context,
        batch=need.batch,
        memory={spot.device: size},
        breakdown={spot.device: parts},
        weight_bytes=size - sum(parts[part] for part in NO_WEIGHTS),
        capabilities=subject.capabilities,
        reason=f"{held} with {describe_context(context, need.batch)} takes {gb(size)} of {gb(spot.free)} "
        f"on {spot.device}",
    )


def _speed(subject: Subject, way: _Way, breakdown: Breakdown, hardware: Hardware) -> float | None:
    """Tokens per second behind a short prompt: the middle of what is predicted.

    Several answers share it, for each reads the weights for itself.
    """
    chosen = QuantizationConfig.of(way.precision)
    schemes = {chosen.scheme(module) for module in LINEAR}
    slowest = min(schemes, key=lambda scheme: scheme.bits)
    part = whole_network(hardware, find_engine("torch"), way.spot.device, slowest.value)
    if part is None:
        return None
    parts: dict[ModuleClass, int] = {
        module: size for module in get_args(ModuleClass) if (size := breakdown[way.spot.device].get(module))
    }
    short = min(way.context, SHORT)
    width = chosen.dtype.bits / 8
    return decode_speed(subject.config, parts, [part], context=short, value_bytes=width).middle


def _why(subject: Subject, tried: Sequence[Precision], need: Need, found: Sequence[DeviceRoom]) -> str | None:
    """Why not what is better; ``None`` where full precision was taken."""
    if not tried:
        as_stored = not subject.precision.full_precision
        return "it is what the checkpoint is stored in" if as_stored else None
    most = max(found, key=lambda spot: spot.usable)
    sizes = [_least(subject, precision, need, most) for precision in tried]
    needs = " and ".join(f"{precision} needs {gb(size)}" for precision, size in zip(tried, sizes, strict=True))
    return f"{needs}; {most.describe_lack(min(sizes))}"


def _least(subject: Subject, precision: Precision, need: Need, spot: DeviceRoom) -> int:
    """Bytes for the context that was asked for, or for the shortest that is offered."""
    context = need.context_length or min(subject.config.max_context, MIN_CONTEXT)
    return subject.memory(precision, context, need.batch, spot.place)


def _no_room(
    subject: Subject, precision: Precision, need: Need, found: list[DeviceRoom], known: list[DeviceRoom]
) -> Unavailable:
    if not found:
        names = ", ".join(spot.device for spot in known)
        return Unavailable(reason=f"there is no device '{need.device}' it can use.", fix=f"Choose among: {names}.")
    most = max(found, key=lambda spot: spot.usable)
    context = need.context_length or min(subject.config.max_context, MIN_CONTEXT)
    size = _least(subject, precision, need, most)
    even = "" if need.quantization or subject.precision == precision else "even "
    return Unavailable(
        reason=f"'{subject.model}' {even}in {precision} with {describe_context(context, need.batch)} needs {gb(size)}; "
        f"{most.describe_lack(size)}.",
        fix=_way_out(subject, precision, need, most, size),
        need_memory=size,
        have_memory=most.usable,
    )


def _way_out(subject: Subject, precision: Precision, need: Need, spot: DeviceRoom, size: int) -> str:
    shorter = _context_that_fits(subject, precision, spot, need.model_copy(update={"prefer": "balanced"}))

    def fits(batch: int) -> bool:
        return _least(subject, precision, need.model_copy(update={"batch": batch}), spot) <= spot.usable

    fewer = largest_fitting(fits, need.batch - 1)
    ways = [f"a context_length of {shorter}"] if need.context_length is not None and shorter else []
    if ways := [*ways, *([f"a batch of {fewer}"] if fewer else [])]:
        return f"Ask for {' or '.join(ways)}."
    for smaller in _choices(precision)[1:]:
        if _context_that_fits(subject, smaller, spot, need):
            return f"Pass quantization='{smaller}', or leave the choice open."
    return f"Use a machine with {gb(size)} free in one place, or a smaller model."
