"""Where on a machine an engine that runs there itself may put a model, and how long a context fits. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from llama4sdk._text import gb
from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.layout_builder import USUAL_CONTEXT, longest
from llama4sdk.capacity.torch_memory import Place
from llama4sdk.hardware import Device, Hardware
from llama4sdk.plan import Preference

__all__ = ["LEAST_CONTEXT", "DeviceRoom", "context_that_fits", "in_words", "matching", "spots"]

LEAST_CONTEXT: Final = 512
"""Tokens below which no shorter context is offered unasked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRoom:
    """A device, or the machine's memory; ``room`` is what of the free bytes may be taken."""

    device: str
    free: int
    room: int
    accelerator: Device | None = None

    @property
    def place(self) -> Place:
        """What kind of place it is."""
        return "cpu" if self.accelerator is None else "accelerator"

    def lacks(self, size: int) -> str:
        """Why so many bytes have no room there, a clause."""
        if size > self.free:
            return f"{self.device} has {gb(self.free)} free"
        return f"{self.device} has {gb(self.free)} free, and {gb(self.free - self.room)} of it is left to others"


def spots(hardware: Hardware, engine: EngineProfile) -> Iterator[DeviceRoom]:
    """Accelerators that the engine can drive, the emptiest first; then the processor."""
    usable = [device for device in hardware.devices if device.kind in engine.kinds]
    for device in sorted(usable, key=lambda device: -hardware.free_on(device)):
        free, room = hardware.free_on(device), engine.room(hardware, device)
        yield DeviceRoom(device=device.id, free=free, room=room, accelerator=device)
    yield DeviceRoom(device="cpu", free=hardware.free_memory, room=engine.room(hardware, None))


def matching(found: Iterable[DeviceRoom], wanted: str | None) -> list[DeviceRoom]:
    """Those that were asked for: ``cuda`` means any of them."""
    return [spot for spot in found if wanted is None or wanted in (spot.device, spot.device.partition(":")[0])]


def context_that_fits(fits: Callable[[int], bool], most: int, prefer: Preference) -> int:
    """The usual context, or half of it, and so on; the longest where that is preferred; 0 when nothing fits."""
    if prefer == "context":
        return longest(fits, most)
    context = min(most, USUAL_CONTEXT)
    while not fits(context) and context > LEAST_CONTEXT:
        context //= 2
    return context if fits(context) else 0


def in_words(context: int, batch: int) -> str:
    """How much a cache is for."""
    return f"{f'{batch} x ' if batch > 1 else ''}{context} tokens of context"
