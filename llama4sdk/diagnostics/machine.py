"""Checks of a machine's hardware, each with a verdict and a remedy. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final, Literal, TypeAlias

from llama4sdk._text import gb
from llama4sdk._values import Value
from llama4sdk.catalog.unified_memory import largest_gpu_memory, raise_gpu_memory_command
from llama4sdk.hardware import Device, Hardware

Section: TypeAlias = Literal["machine", "backends", "models", "plan"]
#: ``info`` is a fact to know about, ``warn`` keeps something from working, ``fail`` is broken.
Status: TypeAlias = Literal["ok", "info", "warn", "fail"]

#: Free disk space below which not even the demo model can be fetched comfortably.
MIN_DISK_BYTES: Final = 2 * 10**9


class Check(Value):
    """One line of the report; ``fix`` is what to do about it."""

    section: Section
    status: Status
    title: str
    text: str
    fix: str | None = None
    #: The distribution behind it, with its version.
    source: str | None = None


def make_check(
    section: Section, status: Status, title: str, text: str, fix: str | None = None, source: str | None = None
) -> Check:
    """A line of the report."""
    return Check(section=section, status=status, title=title, text=text, fix=fix, source=source)


def check_hardware(hardware: Hardware, *, python: str, home: Path) -> Iterator[Check]:
    """The machine's parts, then the problems with them."""
    cpu = hardware.cpu
    cores = f"{cpu.cores} core{'s' if cpu.cores != 1 else ''}"
    yield make_check("machine", "ok", "System", f"{hardware.system}, Python {python}")
    yield make_check("machine", "ok", "CPU", f"{cpu.name}, {cores}")
    yield from _check_memory(hardware)
    yield from _check_devices(hardware)
    if not hardware.devices:
        yield make_check("machine", "info", "GPU", "none found: models run on the CPU")
    if hardware.hidden_devices:
        yield _check_hidden(hardware)
    if hardware.disk_free is not None:
        yield _check_disk(hardware, hardware.disk_free, home)
    if torch := _check_torch(hardware):
        yield torch
    for problem in hardware.problems:
        yield make_check("machine", "warn", "Probe", problem)


def _check_memory(hardware: Hardware) -> Iterator[Check]:
    """The size of memory, and the measured speeds of memory and disk."""
    if not hardware.total_memory:
        text = "how much there is could not be read: nothing can be planned for it"
        yield make_check("machine", "warn", "Memory", text)
        return
    text = f"{gb(hardware.free_memory)} free of {gb(hardware.total_memory)}"
    if hardware.installed_memory is not None:
        text += f"; a container limit keeps the rest of {gb(hardware.installed_memory)} away"
    yield make_check("machine", "ok", "Memory", text)
    if hardware.memory_bandwidth is not None:
        text = f"memory {hardware.memory_bandwidth / 1e9:.0f} GB/s"
        if hardware.disk_bandwidth is not None:
            text += f", disk {hardware.disk_bandwidth / 1e9:.1f} GB/s"
        if hardware.measured:
            text += f", measured {hardware.measured}"
        yield make_check("machine", "ok", "Speed", text)


def _check_devices(hardware: Hardware) -> Iterator[Check]:
    """One line for each device, or for several alike that follow each other."""
    for _, group in groupby(hardware.devices, key=_describe_device):
        first, *others = group
        title = f"{first.id}-{others[-1].index}" if others else first.id
        most = largest_gpu_memory(hardware.total_memory) if first.kind == "mps" else 0
        limit = f"; macOS lends it that much, and up to {gb(most)} with {raise_gpu_memory_command(most)}"
        text = _describe_device(first, 1 + len(others)) + (limit if first.total_memory < most else "")
        yield make_check("machine", "ok", title, text)


def _describe_device(device: Device, count: int = 1) -> str:
    several, each = (f"{count}x ", " each") if count > 1 else ("", "")
    facts = [f"{several}{device.name}, {gb(device.free_memory)} free of {gb(device.total_memory)}{each}"]
    if device.unified:
        facts.append("shared with the CPU")
    if device.processes:
        facts.append(f"{device.processes} other process{'es' if device.processes != 1 else ''} on it")
    return "; ".join(facts)


def _check_hidden(hardware: Hardware) -> Check:
    names = ", ".join(hardware.hidden_devices)
    variables = "CUDA_VISIBLE_DEVICES" if hardware.driver else "ROCR_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES"
    fix = f"Unset {variables} to use all devices."
    status: Status = "info" if hardware.devices else "warn"
    return make_check("machine", status, "Hidden", f"{names}: {variables} keeps this process from it", fix)


def _check_disk(hardware: Hardware, free: int, home: Path) -> Check:
    kind = {"hdd": ", a spinning disk", "network": ", over the network", "memory": ", in memory"}
    text = f"{gb(free)} free in {home}{kind.get(hardware.disk_kind or '', '')}"
    if free < MIN_DISK_BYTES:
        return make_check("machine", "warn", "Disk", text, "Free some space, or set LLAMA4SDK_HOME to a larger disk.")
    if hardware.disk_kind == "memory":
        return make_check("machine", "info", "Disk", text, "Set LLAMA4SDK_HOME to a disk that outlives a restart.")
    return make_check("machine", "ok", "Disk", text)


def reaches_accelerators(hardware: Hardware) -> bool:
    """Whether the torch that is installed, if there is one, can use the accelerators of this machine."""
    return _check_torch(hardware) is None


def _check_torch(hardware: Hardware) -> Check | None:
    """A warning where the installed torch cannot use this machine's devices."""
    torch = next((runtime for runtime in hardware.runtimes if runtime.name == "torch"), None)
    kinds = {device.kind for device in hardware.devices}
    if torch is None or torch.build is None:
        return None
    maker, _, version = torch.build.partition(" ")
    if kinds & {"cuda", "rocm"} and maker not in kinds:
        has = "an NVIDIA" if "cuda" in kinds else "an AMD"
        fix = "Install the build that https://pytorch.org/get-started/locally names for this machine."
        text = f"{torch.version} is built for {maker.upper()} and cannot use {has} GPU"
        return make_check("machine", "warn", "Torch", text, fix)
    if maker == "cuda" and "cuda" in kinds and hardware.cuda and int(version.partition(".")[0]) > hardware.cuda[0]:
        runs = ".".join(map(str, hardware.cuda))
        text = f"{torch.version} is built for CUDA {version}; driver {hardware.driver} runs CUDA {runs} at most"
        fix = f"Update the NVIDIA driver, or install a torch that is built for CUDA {hardware.cuda[0]}."
        return make_check("machine", "warn", "Torch", text, fix)
    return None
