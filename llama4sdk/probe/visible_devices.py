"""Which devices an environment variable leaves a process, as the drivers read it."""

from __future__ import annotations

from collections.abc import Sequence

from llama4sdk.hardware import Device

__all__ = ["select"]


def select(devices: Sequence[Device], variable: str | None) -> tuple[int, ...]:
    """Positions of the visible devices, in the order the process numbers them.

    ``variable`` is a comma-separated list of positions and beginnings of UUIDs (``GPU-…``, ``MIG-…``). Unset, all are
    visible; from the first entry on that names no device, or one twice, nothing is.
    """
    if variable is None:
        return tuple(range(len(devices)))
    chosen: list[int] = []
    for entry in variable.split(","):
        place = _place(devices, entry.strip())
        if place is None or place in chosen:
            break
        chosen.append(place)
    return tuple(chosen)


def _place(devices: Sequence[Device], entry: str) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(devices) else None
    matches = [place for place, device in enumerate(devices) if entry and (device.uuid or "").startswith(entry)]
    return matches[0] if len(matches) == 1 else None
