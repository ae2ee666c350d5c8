"""Every layout that an engine knows for a model on a machine. Pure.

Layouts that do not fit are among them: they say what is missing, and where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from llama4sdk.capacity.engine_profiles import EngineProfile, LayoutKind
from llama4sdk.capacity.layout import Layout
from llama4sdk.capacity.layout_builder import LayoutBuilder
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.hardware import Device, Hardware
from llama4sdk.llama4.config import TextConfig

#: Devices that a matrix is split over; more of them work in stages, or on experts of their own.
TENSOR_SIZES: Final = (2, 4, 8)

#: Devices that experts are dealt out to.
EXPERT_GROUP_SIZES: Final = (*TENSOR_SIZES, 16, 32)


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
    """The layouts of the kinds that this engine knows, those that do not fit included.

    ``context`` is the tokens that each of ``batch`` requests may use; ``None`` takes the longest there is room for.
    ``kv_bytes`` is the size of a value of the cache; there is no layout with one that the engine cannot keep.
    """
    if kv_bytes not in engine.kv_bytes:
        return
    builder = LayoutBuilder(model, engine, machine, precision, context=context, batch=batch, kv_bytes=kv_bytes)
    devices = [device for device in machine.devices if device.kind in engine.kinds]
    for kind in engine.layouts:
        yield from GENERATORS[kind](builder, devices)


def _single(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    if devices:
        device = max(devices, key=builder.usable_memory)
        yield builder.layout("single", partial(builder.on_one_device, device), [device])


def _tensor(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    """Two, four or eight equal devices, where heads can be divided among them."""
    for count in TENSOR_SIZES:
        for group in _equal_devices(devices, builder):
            if len(group) >= count and _tensor_size(builder.model.config, count) == count:
                members = group[:count]
                yield builder.layout("tensor", partial(builder.in_stages, members, count), members, tensor=count)


def _pipeline(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    """Equal devices, where a matrix cannot be split over so many: in stages.

    All of them one after the other, which leaves the most room; and as many of them as let stages split their matrices
    over more, which is faster.
    """
    config = builder.model.config
    for group in _equal_devices(devices, builder):
        sizes = [(len(group), 1)] if _tensor_size(config, len(group)) < len(group) else []
        widest = 1
        for count in range(len(group), 1, -1):
            if (tensor := _tensor_size(config, count)) > widest:
                sizes.append((count, tensor))
                widest = tensor
        for count, tensor in sizes:
            if tensor < count:
                stages = group[: min(count, config.num_layers * tensor)]
                yield builder.layout("pipeline", partial(builder.in_stages, stages, tensor), stages, tensor=tensor)


def _expert(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    """Equal devices that experts can be dealt out to evenly."""
    config = builder.model.config
    for count in EXPERT_GROUP_SIZES:
        for group in _equal_devices(devices, builder):
            if config.moe_layers and config.num_experts % count == 0 and len(group) >= count:
                members, tensor = group[:count], _tensor_size(config, count)
                yield builder.layout("expert", partial(builder.by_experts, members, tensor), members, tensor=tensor)


def _layers(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    if len(devices) > 1 and not any(device.slice for device in devices):  # a process has one slice
        largest = _largest(devices, builder, builder.model.config.num_layers)
        yield builder.layout("layers", partial(builder.by_layers, largest), largest)


def _offload(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    separate = [device for device in devices if not device.unified]
    if separate and builder.model.config.moe_layers:
        largest = sorted(_largest(separate, builder), key=lambda device: -builder.usable_memory(device))
        yield builder.offloaded(largest[:1] if largest[0].slice else largest)  # a process has one slice


def _cpu(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    yield builder.layout("cpu", partial(builder.on_one_device, None), [])


def _disk(builder: LayoutBuilder, devices: Sequence[Device]) -> Iterator[Layout]:
    if builder.model.config.moe_layers:
        yield builder.layout("disk", builder.on_disk, [], context=builder.usual_context)


#: For each kind, its layouts over these devices, if any.
GENERATORS: Final[dict[LayoutKind, Callable[[LayoutBuilder, Sequence[Device]], Iterator[Layout]]]] = {
    "single": _single,
    "tensor": _tensor,
    "pipeline": _pipeline,
    "expert": _expert,
    "layers": _layers,
    "offload": _offload,
    "cpu": _cpu,
    "disk": _disk,
}


def _largest(devices: Sequence[Device], builder: LayoutBuilder, limit: int | None = None) -> list[Device]:
    """The devices of most usable memory: as many as the engine drives at once, at most ``limit``; in their order."""
    count = min(count for count in (len(devices), limit, builder.engine.max_devices) if count is not None)
    largest = sorted(devices, key=lambda device: -builder.usable_memory(device))[:count]
    return [device for device in devices if device in largest]


def _equal_devices(devices: Sequence[Device], builder: LayoutBuilder) -> Iterator[list[Device]]:
    """Groups of devices of one name, the emptiest first in each; slices of a card do not reach each other."""
    groups: dict[str, list[Device]] = {}
    for device in devices:
        if not device.slice:
            groups.setdefault(device.name, []).append(device)
    for group in groups.values():
        yield sorted(group, key=lambda device: -builder.usable_memory(device))


def _tensor_size(config: TextConfig, count: int) -> int:
    """The most devices, of those that divide ``count`` evenly, that heads can be divided among."""
    heads = math.gcd(config.num_heads, config.num_kv_heads)
    return max(size for size in (1, *TENSOR_SIZES) if heads % size == 0 and count % size == 0)
