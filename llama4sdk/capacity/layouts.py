"""Every way an engine could lay a model over a machine, with the bytes on each device. Pure.

A layout that does not fit is one, too: what it lacks, and where, is the answer to "why not".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias

from llama4sdk.capacity.contexts import USUAL_CONTEXT
from llama4sdk.capacity.engine_profiles import EngineProfile, LayoutKind
from llama4sdk.capacity.layout import Layout, class_bytes, scheme_of
from llama4sdk.capacity.layout_builder import LayoutBuilder
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.hardware import Device, Hardware
from llama4sdk.llama4.config import TextConfig

__all__ = ["Layout", "class_bytes", "layouts", "scheme_of"]

COUNTS: Final = (2, 4, 8)
"""Devices that a matrix is split over; more of them work in stages, or on experts of their own."""


def layouts(
    model: ModelFacts,
    engine: EngineProfile,
    machine: Hardware,
    precision: str,
    *,
    context: int | None = None,
    batch: int = 1,
    kv_bytes: float = 2,
) -> Iterator[Layout]:
    """The ways this engine knows, those that do not fit included; none where it drives no device here.

    ``context`` is what each of ``batch`` requests may use; ``None`` takes the longest there is room for. ``kv_bytes``
    is what a value of the cache takes; there is no layout with one that the engine cannot keep.
    """
    if kv_bytes not in engine.kv_bytes:
        return
    room = LayoutBuilder(model, engine, machine, precision, batch=batch, kv_bytes=kv_bytes)
    devices = [device for device in machine.devices if device.kind in engine.kinds]
    for kind in engine.layouts:
        yield from KINDS[kind](room, devices, context)


Ways: TypeAlias = Callable[[LayoutBuilder, Sequence[Device], int | None], Iterator[Layout]]


def _single(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    if devices:
        device = max(devices, key=room.of)
        yield room.layout("single", partial(room.alone, device), context, [device])


def _tensor(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    """Two, four or eight equal devices, as far as heads can be divided among them."""
    for count in COUNTS:
        for group in _alike(devices, room):
            if len(group) >= count and _tensor_size(room.model.config, count) == count:
                yield room.layout("tensor", partial(room.split, group[:count]), context, group[:count], tensor=count)


def _pipeline(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    """Equal devices, where a matrix cannot be split over so many: in stages.

    All of them one after the other, which leaves the most room; and as many of them as let stages split their matrices
    over more, which is faster.
    """
    config = room.model.config
    for group in _alike(devices, room):
        ways = [(len(group), 1)] if _tensor_size(config, len(group)) < len(group) else []
        widest = 1
        for count in range(len(group), 1, -1):
            if (tensor := _tensor_size(config, count)) > widest:
                ways.append((count, tensor))
                widest = tensor
        for count, tensor in ways:
            if tensor < count:
                chosen = group[: min(count, config.num_layers * tensor)]
                yield room.layout("pipeline", partial(room.in_stages, chosen, tensor), context, chosen, tensor=tensor)


def _expert(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    """Equal devices that experts can be dealt out to evenly."""
    config = room.model.config
    for count in (*COUNTS, 16, 32):
        for group in _alike(devices, room):
            if config.moe_layers and config.num_experts % count == 0 and len(group) >= count:
                chosen, tensor = group[:count], _tensor_size(config, count)
                yield room.layout("expert", partial(room.by_experts, chosen, tensor), context, chosen, tensor=tensor)


def _layers(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    if len(devices) > 1 and not any(device.slice for device in devices):  # a process has one slice
        chosen = _roomiest(devices, room, room.model.config.num_layers)
        yield room.layout("layers", partial(room.by_layers, chosen), context, chosen)


def _offload(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    apart = [device for device in devices if not device.unified]
    if apart and room.model.config.moe_layers:
        largest = sorted(_roomiest(apart, room), key=lambda device: -room.of(device))
        yield room.offloaded(largest[:1] if largest[0].slice else largest, context)  # a process has one slice


def _cpu(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    yield room.layout("cpu", partial(room.alone, None), context, [])


def _disk(room: LayoutBuilder, devices: Sequence[Device], context: int | None) -> Iterator[Layout]:
    if room.model.config.moe_layers:
        yield room.layout("disk", room.on_disk, context or min(USUAL_CONTEXT, room.longest), [])


KINDS: Final[dict[LayoutKind, Ways]] = {
    "single": _single,
    "tensor": _tensor,
    "pipeline": _pipeline,
    "expert": _expert,
    "layers": _layers,
    "offload": _offload,
    "cpu": _cpu,
    "disk": _disk,
}


def _roomiest(devices: Sequence[Device], room: LayoutBuilder, most: int | None = None) -> list[Device]:
    """As many as the engine drives at once, and at most ``most``, in the machine's order."""
    limit = min(count for count in (len(devices), most, room.engine.most_devices) if count is not None)
    chosen = sorted(devices, key=lambda device: -room.of(device))[:limit]
    return [device for device in devices if device in chosen]


def _alike(devices: Sequence[Device], room: LayoutBuilder) -> Iterator[list[Device]]:
    """Groups of equal devices, the emptiest first in each; slices of a card do not reach each other."""
    kinds: dict[str, list[Device]] = {}
    for device in devices:
        if not device.slice:
            kinds.setdefault(device.name, []).append(device)
    for group in kinds.values():
        yield sorted(group, key=lambda device: -room.of(device))


def _tensor_size(config: TextConfig, count: int) -> int:
    """The most devices, of those that divide ``count`` evenly, that heads can be divided among."""
    heads = math.gcd(config.num_heads, config.num_kv_heads)
    return max(size for size in (1, *COUNTS) if heads % size == 0 and count % size == 0)
