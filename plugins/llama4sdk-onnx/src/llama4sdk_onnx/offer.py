"""What an export would need where. Pure, and free of ONNX Runtime: any machine can be asked about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llama4sdk._text import gb
from llama4sdk.backend import Capabilities, Need, Offer, Unavailable
from llama4sdk.capacity.candidates import SHORT_PROMPT
from llama4sdk.capacity.contexts import MIN_CONTEXT, describe_context, fitting_context, largest_fitting
from llama4sdk.capacity.device_room import DeviceRoom, device_rooms, rooms_on
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.roofline import decode_speed
from llama4sdk.capacity.sites import whole_network
from llama4sdk.hardware import Hardware, Runtime
from llama4sdk.plan import Placement
from llama4sdk.quantization import LINEAR, ModuleClass, Quantization, QuantizationConfig
from llama4sdk_onnx.manifest import Manifest
from llama4sdk_onnx.sizing import held_bytes, memory_breakdown

__all__ = ["Subject", "make_offer"]

ENGINE: Final = "ONNX Runtime"
"""The name its profile and its calibrations have."""

CPU_BUILD: Final = "onnxruntime"
GPU_BUILD: Final = "onnxruntime-gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The export in question, and what can be asked of it."""

    model: str
    folder: Path
    manifest: Manifest
    capabilities: Capabilities

    def breakdown(self, context: int, batch: int, spot: DeviceRoom) -> dict[str, int]:
        """Bytes that a place must have room for, part by part."""
        return memory_breakdown(self.manifest, context, batch=batch, place=spot.place)

    def memory(self, context: int, batch: int, spot: DeviceRoom) -> int:
        """All of it."""
        return sum(self.breakdown(context, batch, spot).values())

    @property
    def max_context(self) -> int:
        """Tokens the network was made for."""
        return self.manifest.config.max_context


def make_offer(subject: Subject, need: Need, hardware: Hardware) -> Offer | Unavailable:
    """The first place that has room: an accelerator that can run the export, or the processor."""
    if refusal := _impossible(subject, need) or _outdated(subject, hardware):
        return refusal
    known = [spot for spot in device_rooms(hardware, find_engine(ENGINE)) if _obstacle(subject, spot, hardware) is None]
    found = rooms_on(known, need.device)
    if not found:
        return _no_device(subject, need, hardware, known)
    ways = [(spot, context) for spot in found if (context := _context(subject, spot, need))]
    if not ways:
        return _no_room(subject, need, found)
    if need.prefer == "context":
        ways.sort(key=lambda way: -way[1])  # the first of the longest
    return _offer(subject, *ways[0], need, hardware)


def _impossible(subject: Subject, need: Need) -> Unavailable | None:
    """What no machine would change."""
    held = subject.manifest.quantization
    if need.quantization is not None and not _means(need.quantization, held):
        return Unavailable(
            reason=f"{subject.folder} holds {held}, and not {need.quantization}.",
            fix=f"Leave the quantization open, or export the checkpoint again: "
            f"llama4sdk export CHECKPOINT --to onnx -q {need.quantization} DIRECTORY",
        )
    if need.context_length is not None and need.context_length > subject.max_context:
        return Unavailable(
            reason=f"the context of '{subject.model}' is {subject.max_context} tokens; {need.context_length} were "
            "asked.",
            fix=f"Ask for a context_length of at most {subject.max_context}.",
        )
    return None


def _means(asked: Quantization | QuantizationConfig, held: QuantizationConfig) -> bool:
    """Whether these weights are what was asked for; a scheme alone leaves open what activations are held in."""
    if isinstance(asked, QuantizationConfig):
        return asked == held
    return all(held.scheme(module) is asked for module in LINEAR)


def _outdated(subject: Subject, hardware: Hardware) -> Unavailable | None:
    """Where ONNX Runtime is installed, it must know the graph's operators."""
    least = subject.manifest.onnxruntime
    for runtime in _builds(hardware):
        if _release(runtime.version) < _release(least):
            return Unavailable(
                reason=f"{subject.folder} needs {runtime.name} {least}, and {runtime.version} is installed.",
                fix=f"pip install --upgrade '{runtime.name}>={least}'",
            )
    return None


def _builds(hardware: Hardware) -> list[Runtime]:
    """The installed ones. A machine that was described without any is taken to have what is needed."""
    return [runtime for runtime in hardware.runtimes if runtime.name in (CPU_BUILD, GPU_BUILD)]


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def _obstacle(subject: Subject, spot: DeviceRoom, hardware: Hardware) -> Unavailable | None:
    """Why this export cannot run there."""
    if spot.accelerator is None:
        return None
    builds = {runtime.name for runtime in _builds(hardware)}
    if builds and GPU_BUILD not in builds:
        return Unavailable(
            reason=f"the installed ONNX Runtime runs on the processor only, not on {spot.device}.",
            fix="pip uninstall -y onnxruntime && pip install 'llama4sdk-onnx[gpu]'",
        )
    held = subject.manifest.quantization
    if subject.manifest.kind == "fast" and held.dtype is not Quantization.FP16:
        return Unavailable(
            reason=f"{subject.folder} calculates in {held.dtype}, and ONNX Runtime's attention on {spot.device} only "
            "in fp16.",
            fix=f"Export it again with -q {_for_accelerators(held)}, or pass device='cpu'.",
        )
    return None


def _for_accelerators(held: QuantizationConfig) -> str:
    scheme = next((held.scheme(module) for module in LINEAR if not held.scheme(module).full_precision), None)
    return f"{scheme}/fp16" if scheme else "fp16"


def _no_device(subject: Subject, need: Need, hardware: Hardware, known: list[DeviceRoom]) -> Unavailable:
    for spot in rooms_on(device_rooms(hardware, find_engine(ENGINE)), need.device):
        if obstacle := _obstacle(subject, spot, hardware):
            return obstacle
    names = ", ".join(spot.device for spot in known)
    return Unavailable(reason=f"there is no device '{need.device}' it can use.", fix=f"Choose among: {names}.")


def _context(subject: Subject, spot: DeviceRoom, need: Need) -> int:
    """What was asked for, the usual or what fits; 0 when nothing does."""

    def fits(context: int) -> bool:
        return subject.memory(context, need.batch, spot) <= spot.usable

    if need.context_length is not None:
        return need.context_length if fits(need.context_length) else 0
    return fitting_context(fits, subject.max_context, need.prefer)


def _offer(subject: Subject, spot: DeviceRoom, context: int, need: Need, hardware: Hardware) -> Offer:
    held = subject.manifest.quantization
    parts = subject.breakdown(context, need.batch, spot)
    size = sum(parts.values())
    return Offer(
        model=subject.model,
        source=str(subject.folder),
        placement=Placement(kind="local", devices=(spot.device,)),
        quantization=need.quantization or held.simplest,
        quantization_reason="it is what was exported",
        context_length=context,
        batch=need.batch,
        memory={spot.device: size},
        breakdown={spot.device: parts},
        weight_bytes=sum(held_bytes(subject.manifest).values()),
        tokens_per_second=_speed(subject, spot, context, hardware),
        capabilities=subject.capabilities,
        reason=f"{held} with {describe_context(context, need.batch)} takes {gb(size)} of {gb(spot.free)} "
        f"on {spot.device}",
    )


def _speed(subject: Subject, spot: DeviceRoom, context: int, hardware: Hardware) -> float | None:
    """Tokens per second behind a short prompt: the middle of what is predicted."""
    held = subject.manifest.quantization
    slowest = min((held.scheme(module) for module in LINEAR), key=lambda scheme: scheme.bits)
    part = whole_network(hardware, find_engine(ENGINE), spot.device, slowest.value)
    if part is None:
        return None
    weights: dict[ModuleClass, int] = held_bytes(subject.manifest)
    width = held.dtype.bits / 8
    return decode_speed(
        subject.manifest.config, weights, [part], context=min(context, SHORT_PROMPT), value_bytes=width
    ).middle


def _no_room(subject: Subject, need: Need, found: list[DeviceRoom]) -> Unavailable:
    most = max(found, key=lambda spot: spot.usable)
    context = need.context_length or min(subject.max_context, MIN_CONTEXT)
    size = subject.memory(context, need.batch, most)
    return Unavailable(
        reason=f"'{subject.model}' in {subject.manifest.quantization} with "
        f"{describe_context(context, need.batch)} needs {gb(size)}; {most.describe_lack(size)}.",
        fix=_way_out(subject, need, most, size),
        need_memory=size,
        have_memory=most.usable,
    )


def _way_out(subject: Subject, need: Need, spot: DeviceRoom, size: int) -> str:
    shorter = _context(subject, spot, need.model_copy(update={"context_length": None, "prefer": "balanced"}))
    context = need.context_length or min(subject.max_context, MIN_CONTEXT)
    fewer = largest_fitting(lambda batch: subject.memory(context, batch, spot) <= spot.usable, need.batch - 1)
    ways = [f"a context_length of {shorter}"] if need.context_length is not None and shorter else []
    if ways := [*ways, *([f"a batch of {fewer}"] if fewer else [])]:
        return f"Ask for {' or '.join(ways)}."
    return f"Export the model in fewer bits, or use a machine with {gb(size)} free in one place."
