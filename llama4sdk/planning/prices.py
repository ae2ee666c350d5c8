"""What others charge for Llama 4, each price with its source and the day it was seen. Pure.

Prices change and endpoints end: after ``CURRENT_FOR`` a price is shown with its day and no longer called current.
"""

from __future__ import annotations

import csv
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from typing import Final

from llama4sdk._values import Value
from llama4sdk.hardware import Device
from llama4sdk.planning.accelerators import accelerator_of

__all__ = ["CURRENT_FOR", "RENTS", "Price", "Rent", "find_price", "prices", "rent_of"]

CURRENT_FOR: Final = timedelta(days=90)
"""How long a price that was seen is taken to hold."""


class Price(Value):
    """Of one model at one endpoint, in US dollars for a million tokens; ``None`` is what nobody has published."""

    endpoint: str
    model: str
    input: float | None
    output: float | None
    context: int | None
    """The longest it accepts, which is often less than the model's own."""
    tokens_per_second: float | None
    speed_seen: str
    until: date | None
    """The day it ends, or ended."""
    source: str
    seen: date

    @property
    def blended(self) -> float | None:
        """For a million tokens of which three in four are prompt, as prices are usually compared."""
        return None if self.input is None or self.output is None else (3 * self.input + self.output) / 4

    def cost(self, prompt: int, answer: int) -> float | None:
        """Dollars for so many tokens; ``None`` without a price."""
        if self.input is None or self.output is None:
            return None
        return (self.input * prompt + self.output * answer) / 1e6

    def ended(self, today: date) -> bool:
        """Whether the endpoint no longer serves the model."""
        return self.until is not None and self.until <= today

    def current(self, today: date) -> bool:
        """Whether it was seen not long ago, and is still offered."""
        return today - self.seen <= CURRENT_FOR and not self.ended(today)


class Rent(Value):
    """Of one accelerator, in US dollars an hour."""

    device: str
    hourly: float
    source: str
    seen: date


RENTS: Final = (Rent(device="H200 SXM 141GB", hourly=3.95, source="dstack", seen=date(2026, 11, 21)),)
"""Few sources give one that can be quoted."""


@cache
def prices() -> tuple[Price, ...]:
    """All that are known, those of endpoints that ended included."""
    with files("llama4sdk.planning").joinpath("prices.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    empty = ("input", "output", "context", "tokens_per_second", "until")
    return tuple(Price.model_validate({k: None if k in empty and not v else v for k, v in row.items()}) for row in rows)


def find_price(endpoint: str, model: str) -> Price | None:
    """The price of this model there, by the endpoint's name in any case."""
    return next((p for p in prices() if (p.endpoint.lower(), p.model) == (endpoint.lower(), model)), None)


def rent_of(devices: tuple[Device, ...]) -> float | None:
    """Dollars an hour for all of them; ``None`` where one has no known price, or there are none."""
    known = {rent.device: rent.hourly for rent in RENTS}
    names = [accelerator.name if (accelerator := accelerator_of(device)) else "" for device in devices]
    return sum(known[name] for name in names) if names and set(names) <= set(known) else None
