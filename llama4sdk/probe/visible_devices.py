"""The devices that ``CUDA_VISIBLE_DEVICES`` and its like make visible, by the drivers' rules."""

from __future__ import annotations

from collections.abc import Sequence

from llama4sdk.hardware import Device


def visible_indices(devices: Sequence[Device], variable: str | None) -> tuple[int, ...]:
    """Indices of the visible devices, in the order the process numbers them.

    ``variable`` is a comma-separated list of indices and UUID prefixes (``GPU-…``, ``MIG-…``). ``None`` makes all
    visible. The first entry that names no device, or one a second time, ends the list.
    """
    if variable is None:
        return tuple(range(len(devices)))
    chosen: list[int] = []
    for entry in variable.split(","):
        index = _index(devices, entry.strip())
        if index is None or index in chosen:
            break
        chosen.append(index)
    return tuple(chosen)


def _index(devices: Sequence[Device], entry: str) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(devices) else None
    matches = [index for index, device in enumerate(devices) if entry and (device.uuid or "").startswith(entry)]
    return matches[0] if len(matches) == 1 else None
