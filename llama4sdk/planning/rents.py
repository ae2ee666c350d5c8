"""What accelerators cost to rent, each price with its source and the day it was seen. Pure."""

from __future__ import annotations

from datetime import date
from typing import Final

from llama4sdk._values import Value
from llama4sdk.hardware import Device
from llama4sdk.planning.accelerators import accelerator_of

__all__ = ["RENTS", "Rent", "rent_of"]


class Rent(Value):
    """Of one accelerator, in US dollars an hour."""

    device: str
    hourly: float
    source: str
    seen: date


RENTS: Final = (Rent(device="H200 SXM 141GB", hourly=3.95, source="dstack", seen=date(2026, 11, 21)),)
"""Few sources give one that can be quoted."""


def rent_of(devices: tuple[Device, ...]) -> float | None:
    """Dollars an hour for all of them; ``None`` where one has no known price, or there are none."""
    known = {rent.device: rent.hourly for rent in RENTS}
    names = [accelerator.name if (accelerator := accelerator_of(device)) else "" for device in devices]
    return sum(known[name] for name in names) if names and set(names) <= set(known) else None
