"""A machine as the planner sees it: plain values, so that any machine can be described in a file.

All memory is in bytes. ``None`` means that it could not be read; ``problems`` says why.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from pydantic import model_validator

from llama4sdk._text import in_words
from llama4sdk._values import Label, Value
from llama4sdk.errors import ConfigurationError

__all__ = [
    "MAX_CORES",
    "MAX_DEVICES",
    "MAX_DISK_BYTES",
    "MAX_MEMORY_BYTES",
    "Cpu",
    "Device",
    "DeviceKind",
    "DiskKind",
    "Hardware",
    "Link",
    "Runtime",
]

_HOW_TO_WRITE_A_FILE: Final = "Write one with 'llama4sdk doctor --json > machine.json'."
_MAX_FILE_BYTES: Final = 16 * 2**20

#: The most bytes of one memory, or a second through it, that are believed.
MAX_MEMORY_BYTES: Final = 2**50
MAX_DISK_BYTES: Final = 2**63
MAX_CORES: Final = 2**16
MAX_DEVICES: Final = 1024

DeviceKind: TypeAlias = Literal["cuda", "rocm", "mps"]
DiskKind: TypeAlias = Literal["nvme", "ssd", "hdd", "network", "memory"]


class Device(Value):
    """One accelerator this process may use. ``free_memory`` is unused at the time of the probe."""

    kind: DeviceKind
    index: int
    name: Label
    total_memory: int
    free_memory: int
    compute_capability: tuple[int, int] | None = None
    #: The architecture that kernels are compiled for, such as ``gfx942``, where no compute capability says it.
    architecture: Label | None = None
    #: The name that ``CUDA_VISIBLE_DEVICES`` takes.
    uuid: Label | None = None
    #: Whether it is a part of a card that was divided (MIG).
    slice: bool = False
    #: Whether its memory is the machine's own, shared with the processor: one pool, which counts once.
    unified: bool = False
    #: Other processes that use some of its memory.
    processes: int = 0
    #: Bytes per second of its own memory, where it can be computed from what its driver reports.
    memory_bandwidth: int | None = None
    #: Bytes per second from the machine's memory to the device's, one way: measured, or as its link is specified.
    host_bandwidth: int | None = None
    #: Watts it may draw.
    power_limit: float | None = None
    #: Whether its memory corrects errors (ECC), which takes some of it on older cards.
    ecc: bool | None = None

    @property
    def id(self) -> str:
        """The name users and torch give it, such as ``cuda:0``."""
        return self.kind if self.kind == "mps" else f"{self.kind}:{self.index}"


class Link(Value):
    """A direct connection of two devices; devices without one reach each other through the machine's memory."""

    devices: tuple[str, str]
    #: ``peer`` is direct access over PCIe.
    kind: Literal["nvlink", "xgmi", "peer"]
    #: Bytes per second, one way, as specified.
    bandwidth: int | None = None


class Cpu(Value):
    """The processor: cores this process may use, and the instruction sets that matter to kernels."""

    name: Label
    cores: int
    features: tuple[Label, ...] = ()
    #: Memory regions; a thread is slower in all but its own.
    numa_nodes: int = 1


class Runtime(Value):
    """An installed library that runs models. ``build`` is the platform it was compiled for: ``cpu``, ``cuda 13.0`` …"""

    name: Label
    version: Label
    build: Label | None = None


class Hardware(Value):
    """One machine, real or imagined, and what is installed on it. Sizes that no machine has are refused."""

    system: Label
    cpu: Cpu
    #: RAM this process may use, a cgroup's limit included.
    total_memory: int
    free_memory: int
    #: RAM the machine has, where a cgroup allows less.
    installed_memory: int | None = None
    free_swap: int = 0
    total_swap: int = 0
    #: Bytes per second that all cores read together, where somebody measured it.
    memory_bandwidth: int | None = None
    #: Bytes per second of the disk with the weights, where somebody measured it.
    disk_bandwidth: int | None = None
    #: Bytes per second that the last download of weights reached.
    download_bandwidth: int | None = None
    #: The day memory and disk were measured, by ``llama4sdk doctor --bench``.
    measured: Label | None = None
    devices: tuple[Device, ...] = ()
    links: tuple[Link, ...] = ()
    #: Names of devices that an environment variable hides from this process.
    hidden_devices: tuple[Label, ...] = ()
    #: NVIDIA driver version.
    driver: Label | None = None
    #: The newest CUDA this driver runs.
    cuda: tuple[int, int] | None = None
    #: Free bytes of the disk with the weights.
    disk_free: int | None = None
    disk_kind: DiskKind | None = None
    runtimes: tuple[Runtime, ...] = ()
    #: Names of the keys that were found; never their values.
    credentials: tuple[Label, ...] = ()
    #: Facts that could not be read, and why.
    problems: tuple[Label, ...] = ()

    @model_validator(mode="after")
    def _check_plausible(self) -> Self:
        if fault := next(_implausible_values(self), None):
            raise ValueError(fault)
        return self

    def free(self, device_id: str) -> int:
        """Free bytes of a device, of RAM (``cpu``) or of the disk with the weights (``disk``); 0 for an unknown one."""
        free = {"cpu": self.free_memory, "disk": self.disk_free or 0}
        return (free | {device.id: self.free_on(device) for device in self.devices}).get(device_id, 0)

    def free_on(self, device: Device) -> int:
        """Free bytes of one of its devices: of a pool that is shared, no more than the processor finds free."""
        return min(device.free_memory, self.free_memory) if device.unified else device.free_memory

    def with_free(self, device_id: str, size: int) -> Self:
        """A copy of the machine with ``size`` bytes free on a device, or of RAM (``cpu``)."""
        devices = tuple(d.model_copy(update={"free_memory": size}) if d.id == device_id else d for d in self.devices)
        memory = size if device_id == "cpu" else self.free_memory
        return self.model_copy(update={"devices": devices, "free_memory": memory})

    @classmethod
    def from_file(cls, path: str | Path) -> Hardware:
        """Read what ``llama4sdk doctor --json`` wrote, or its ``hardware`` part alone.

        Raises ConfigurationError when the file cannot be read or describes no machine.
        """
        try:
            with Path(path).open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
            if len(content) > _MAX_FILE_BYTES:
                raise ValueError(f"it has more than {_MAX_FILE_BYTES} bytes")
            data = json.loads(content)  # given bytes, it recognizes the UTF-16 that PowerShell writes
            return cls.model_validate(data.get("hardware", data) if isinstance(data, dict) else data)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot read the hardware file {path}: {error.strerror or error}.", hint=_HOW_TO_WRITE_A_FILE
            ) from error
        except (ValueError, RecursionError) as error:
            cause = "it is nested too deeply" if isinstance(error, RecursionError) else in_words(error)
            raise ConfigurationError(
                f"The hardware file {path} does not describe a machine: {cause}.", hint=_HOW_TO_WRITE_A_FILE
            ) from error


def _implausible_values(machine: Hardware) -> Iterator[str]:
    """Values that no machine can have, in words."""
    yield from _out_of_range("total_memory", machine.total_memory, MAX_MEMORY_BYTES)
    yield from _out_of_range("free_memory", machine.free_memory, machine.total_memory)
    for name in ("installed_memory", "free_swap", "total_swap"):
        yield from _out_of_range(name, getattr(machine, name), MAX_MEMORY_BYTES)
    for name in ("memory_bandwidth", "disk_bandwidth"):
        yield from _out_of_range(name, getattr(machine, name), MAX_MEMORY_BYTES, minimum=1)
    yield from _out_of_range("disk_free", machine.disk_free, MAX_DISK_BYTES)
    yield from _out_of_range("cpu.cores", machine.cpu.cores, MAX_CORES, minimum=1)
    yield from _out_of_range("the number of devices", len(machine.devices), MAX_DEVICES)
    for number, device in enumerate(machine.devices):
        yield from _implausible_device_values(device, f"devices.{number}")
    counts = Counter(device.id for device in machine.devices)
    yield from (f"there are {count} devices {name}" for name, count in counts.items() if count > 1)
    for number, link in enumerate(machine.links):
        if len({*link.devices} & counts.keys()) != len(link.devices):
            yield f"links.{number} connects {' and '.join(link.devices)}, which are not two of its devices"
        yield from _out_of_range(f"links.{number}.bandwidth", link.bandwidth, MAX_MEMORY_BYTES, minimum=1)


def _implausible_device_values(device: Device, where: str) -> Iterator[str]:
    yield from _out_of_range(f"{where}.index", device.index, MAX_CORES)
    yield from _out_of_range(f"{where}.total_memory", device.total_memory, MAX_MEMORY_BYTES, minimum=1)
    yield from _out_of_range(f"{where}.free_memory", device.free_memory, device.total_memory)
    yield from _out_of_range(f"{where}.host_bandwidth", device.host_bandwidth, MAX_MEMORY_BYTES, minimum=1)
    yield from _out_of_range(f"{where}.power_limit", device.power_limit, MAX_MEMORY_BYTES)
    yield from _out_of_range(f"{where}.processes", device.processes, MAX_MEMORY_BYTES)
    for part in device.compute_capability or ():
        yield from _out_of_range(f"{where}.compute_capability", part, MAX_CORES)


def _out_of_range(name: str, value: float | None, maximum: int, *, minimum: int = 0) -> Iterator[str]:
    if value is not None and not (math.isfinite(value) and minimum <= value <= maximum):
        yield f"{name} is {value}, and must be from {minimum} to {maximum}"
