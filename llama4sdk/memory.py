"""What an engine was seen to take of memory, beside what its plan said."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from llama4sdk._values import Value
from llama4sdk.text import gb

__all__ = ["BAND", "Memory"]

BAND: Final = 0.1
"""The share by which an engine may exceed its plan's memory before it is said."""


class Memory(Value):
    """Bytes by device. ``measured`` is the peak so far, and empty where the engine cannot tell."""

    predicted: dict[str, int] = Field(default_factory=dict)
    measured: dict[str, int] = Field(default_factory=dict)

    @property
    def excess(self) -> str | None:
        """What to say of the devices that took more than was predicted, and ``BAND`` besides; ``None`` of none."""
        beyond = [
            f"{gb(size)} on {device}, where {gb(self.predicted[device])} were predicted"
            for device, size in self.measured.items()
            if device in self.predicted and size > self.predicted[device] * (1 + BAND)
        ]
        return " and ".join(beyond) or None
