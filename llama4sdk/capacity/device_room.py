"""Where on a machine an engine in this process may put a model, and how many bytes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from llama4sdk._text import gb
from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.torch_memory import MemoryKind
from llama4sdk.hardware import Device, Hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRoom:
    """A device, or the machine's memory (``cpu``), in bytes; ``usable`` is what of ``free`` the engine may take."""

    device: str
    free: int
    usable: int
    accelerator: Device | None = None

    @property
    def memory_kind(self) -> MemoryKind:
        """The kind of memory: the machine's, or an accelerator's."""
        return "cpu" if self.accelerator is None else "accelerator"

    def describe_lack(self, size: int) -> str:
        """Why ``size`` bytes have no room there, as a clause."""
        if size > self.free:
            return f"{self.device} has {gb(self.free)} free"
        return f"{self.device} has {gb(self.free)} free, and {gb(self.free - self.usable)} of it is left to others"


def device_rooms(hardware: Hardware, engine: EngineProfile) -> Iterator[DeviceRoom]:
    """The room of every accelerator that the engine can drive, the emptiest first; then that of the processor."""
    usable = [device for device in hardware.devices if device.kind in engine.kinds]
    for device in sorted(usable, key=lambda device: -hardware.free_on(device)):
        room = engine.usable_memory(hardware, device)
        yield DeviceRoom(device=device.id, free=hardware.free_on(device), usable=room, accelerator=device)
    yield DeviceRoom(device="cpu", free=hardware.free_memory, usable=engine.usable_memory(hardware, None))


def rooms_on(rooms: Iterable[DeviceRoom], device: str | None) -> list[DeviceRoom]:
    """The rooms on the device that was asked for: ``cuda`` means any of them, ``None`` all."""
    return [room for room in rooms if device is None or device in (room.device, room.device.partition(":")[0])]
