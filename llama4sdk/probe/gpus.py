"""GPUs as drivers list them, and those that ``CUDA_VISIBLE_DEVICES`` and its like make visible by drivers' rules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from llama4sdk.hardware import Device, Link


class Gpus(NamedTuple):
    """Devices this process may use, their links, names of hidden devices, driver and CUDA version, and problems."""

    devices: tuple[Device, ...] = ()
    links: tuple[Link, ...] = ()
    hidden: tuple[str, ...] = ()
    driver: str | None = None
    cuda: tuple[int, int] | None = None
    problems: tuple[str, ...] = ()


class Gpu(NamedTuple):
    """A device, and what its driver knows it by."""

    handle: Any
    device: Device


def visible_gpus(gpus: Sequence[Gpu], *variables: str | None) -> tuple[list[Gpu], tuple[str, ...]]:
    """The visible GPUs, numbered as the process numbers them, and the names of the others.

    A variable is a comma-separated list of indices and UUID prefixes (``GPU-…``, ``MIG-…``), counted in what the
    variable before leaves; ``None`` makes all visible. The first entry that names no device, or one a second time, ends
    the list.
    """
    numbers = list(range(len(gpus)))
    for variable in variables:
        if variable is not None:
            indices = _visible_indices([gpus[number].device for number in numbers], variable)
            numbers = [numbers[index] for index in indices]
    visible = [Gpu(gpus[n].handle, gpus[n].device.model_copy(update={"index": i})) for i, n in enumerate(numbers)]
    return visible, tuple(gpu.device.name for number, gpu in enumerate(gpus) if number not in numbers)


def _visible_indices(devices: Sequence[Device], variable: str) -> list[int]:
    chosen: list[int] = []
    for entry in variable.split(","):
        index = _index(devices, entry.strip())
        if index is None or index in chosen:
            break
        chosen.append(index)
    return chosen


def _index(devices: Sequence[Device], entry: str) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(devices) else None
    matches = [index for index, device in enumerate(devices) if entry and (device.uuid or "").startswith(entry)]
    return matches[0] if len(matches) == 1 else None
