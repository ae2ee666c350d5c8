"""A machine as the planner sees it: plain values, so that any machine can be described in a file.

All memory is in bytes. ``None`` means that it could not be read; ``problems`` says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from pydantic import ValidationError, model_validator

from llama4sdk._text import in_words
from llama4sdk._values import Label, Value
from llama4sdk.errors import ConfigurationError

__all__ = [
    "MOST_CORES",
    "MOST_DEVICES",
    "MOST_DISK",
    "MOST_MEMORY",
    "Cpu",
    "Device",
    "DeviceKind",
    "DiskKind",
    "Hardware",
    "Link",
    "Runtime",
]

_HOW_TO_WRITE_ONE: Final = "Write one with 'llama4sdk doctor --json > machine.json'."
_LONGEST_FILE: Final = 16 * 2**20

#: Bytes of one memory, or a second through it, that are believed.
MOST_MEMORY: Final = 2**50
MOST_DISK: Final = 2**63
MOST_CORES: Final = 2**16
MOST_DEVICES: Final = 1024

DeviceKind: TypeAlias = Literal["cuda", "rocm", "mps"]
DiskKind: TypeAlias = Literal["nvme", "ssd", "hdd", "network", "memory"]


class Device(Value):
    """One accelerator this process may use. ``free_memory`` is what nobody uses at the time of the probe."""

    kind: DeviceKind
    index: int
    name: Label
    total_memory: int
    free_memory: int
    compute_capability: tuple[int, int] | None = None
    #: What kernels are compiled for where it is not told by the compute capability, such as ``gfx942``.
    architecture: Label | None = None
    #: What ``CUDA_VISIBLE_DEVICES`` takes.
    uuid: Label | None = None
    #: Whether it is a part of a card that was divided (MIG).
    slice: bool = False
    #: Whether its memory is the machine's own, shared with the processor: one pool, which counts once.
    unified: bool = False
    #: Other processes that hold some of its memory.
    processes: int = 0
    #: Bytes per second of its own memory, where its driver lets that be worked out.
    memory_bandwidth: int | None = None
    #: Bytes per second from the machine's memory to the device's, one way: measured, or as its link is specified.
    host_bandwidth: int | None = None
    #: Watts it may draw.
    power_limit: float | None = None
    #: Whether its memory corrects errors, which costs some of it on older cards.
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
    """An installed library that runs models. ``build`` is what it was compiled for: ``cpu``, ``cuda 13.0`` …"""

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
    #: Bytes per second that all cores together read, where somebody measured it.
    memory_bandwidth: int | None = None
    #: Bytes per second that are read where weights are kept, where somebody measured it.
    disk_bandwidth: int | None = None
    #: Bytes per second that the last download of weights reached.
    download_bandwidth: int | None = None
    #: The day memory and disk were measured, by ``llama4sdk doctor --bench``.
    measured: Label | None = None
    devices: tuple[Device, ...] = ()
    links: tuple[Link, ...] = ()
    #: Names of devices that an environment variable keeps from this process.
    hidden_devices: tuple[Label, ...] = ()
    #: NVIDIA driver version.
    driver: Label | None = None
    #: The newest CUDA this driver runs.
    cuda: tuple[int, int] | None = None
    #: Free space where weights are kept.
    disk_free: int | None = None
    disk_kind: DiskKind | None = None
    runtimes: tuple[Runtime, ...] = ()
    #: Names of the keys that were found; never their values.
    credentials: tuple[Label, ...] = ()
    #: What could not be read, and why.
    problems: tuple[Label, ...] = ()

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if fault := next(_faults(self), None):
            raise ValueError(fault)
        return self

    def free(self, place: str) -> int:
        """Free bytes of a device, of RAM (``cpu``) or where weights are kept (``disk``); 0 of what is not there."""
        known = {"cpu": self.free_memory, "disk": self.disk_free or 0}
        return (known | {device.id: self.free_on(device) for device in self.devices}).get(place, 0)

    def free_on(self, device: Device) -> int:
        """Free bytes of one of its devices: of a pool that is shared, no more than the processor finds free."""
        return min(device.free_memory, self.free_memory) if device.unified else device.free_memory

    def with_free(self, place: str, size: int) -> Self:
        """The same machine with so many bytes free on a device, or of RAM (``cpu``)."""
        devices = tuple(d.model_copy(update={"free_memory": size}) if d.id == place else d for d in self.devices)
        memory = size if place == "cpu" else self.free_memory
        return self.model_copy(update={"devices": devices, "free_memory": memory})

    @classmethod
    def from_file(cls, path: str | Path) -> Hardware:
        """Read what ``llama4sdk doctor --json`` wrote, or its ``hardware`` part alone.

        Raises ConfigurationError when the file cannot be read or describes no machine.
        """
        import json

        try:
            with Path(path).open("rb") as file:
                content = file.read(_LONGEST_FILE + 1)
            if len(content) > _LONGEST_FILE:
                raise ValueError(f"it has more than {_LONGEST_FILE} bytes")
            data = json.loads(content)  # of bytes it tells UTF-8 from UTF-16, which PowerShell writes
            return cls.model_validate(data.get("hardware", data) if isinstance(data, dict) else data)
        except OSError as error:
            raise ConfigurationError(
                f"Cannot read the hardware file {path}: {error.strerror or error}.", hint=_HOW_TO_WRITE_ONE
            ) from error
        except RecursionError as error:
            raise _no_machine(path, "it is nested too deeply") from error
        except ValueError as error:
            cause = in_words(error) if isinstance(error, ValidationError) else str(error)
            raise _no_machine(path, cause) from error


def _no_machine(path: str | Path, cause: str) -> ConfigurationError:
    return ConfigurationError(f"The hardware file {path} does not describe a machine: {cause}.", hint=_HOW_TO_WRITE_ONE)


def _faults(machine: Hardware) -> Iterator[str]:
    """What cannot be true of any machine, in words."""
    yield from _unlikely("total_memory", machine.total_memory, MOST_MEMORY)
    yield from _unlikely("free_memory", machine.free_memory, machine.total_memory)
    for name in ("installed_memory", "free_swap", "total_swap"):
        yield from _unlikely(name, getattr(machine, name), MOST_MEMORY)
    for name in ("memory_bandwidth", "disk_bandwidth"):
        yield from _unlikely(name, getattr(machine, name), MOST_MEMORY, least=1)
    yield from _unlikely("disk_free", machine.disk_free, MOST_DISK)
    yield from _unlikely("cpu.cores", machine.cpu.cores, MOST_CORES, least=1)
    yield from _unlikely("the number of devices", len(machine.devices), MOST_DEVICES)
    for number, device in enumerate(machine.devices):
        yield from _faults_of(device, f"devices.{number}")
    known = Counter(device.id for device in machine.devices)
    yield from (f"there are {count} devices {name}" for name, count in known.items() if count > 1)
    for number, link in enumerate(machine.links):
        if len({*link.devices} & known.keys()) != len(link.devices):
            yield f"links.{number} connects {' and '.join(link.devices)}, which are not two of its devices"
        yield from _unlikely(f"links.{number}.bandwidth", link.bandwidth, MOST_MEMORY, least=1)


def _faults_of(device: Device, where: str) -> Iterator[str]:
    yield from _unlikely(f"{where}.index", device.index, MOST_CORES)
    yield from _unlikely(f"{where}.total_memory", device.total_memory, MOST_MEMORY, least=1)
    yield from _unlikely(f"{where}.free_memory", device.free_memory, device.total_memory)
    yield from _unlikely(f"{where}.host_bandwidth", device.host_bandwidth, MOST_MEMORY, least=1)
    yield from _unlikely(f"{where}.power_limit", device.power_limit, MOST_MEMORY)
    yield from _unlikely(f"{where}.processes", device.processes, MOST_MEMORY)
    for part in device.compute_capability or ():
        yield from _unlikely(f"{where}.compute_capability", part, MOST_CORES)


def _unlikely(name: str, value: float | None, most: int, *, least: int = 0) -> Iterator[str]:
    if value is not None and not (math.isfinite(value) and least <= value <= most):
        yield f"{name} is {value}, and must be from {least} to {most}"
