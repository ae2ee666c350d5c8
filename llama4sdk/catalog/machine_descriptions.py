"""Machines described in a word, such as ``8xH100-80GB`` or ``m3-max-64gb``: to plan for without owning them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final, Literal

from pydantic import ValidationError

from llama4sdk._text import in_words
from llama4sdk.catalog.accelerators import HOW_TO_DESCRIBE, Accelerator, find_accelerator
from llama4sdk.catalog.unified_memory import usual_gpu_memory
from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Cpu, Device, DeviceKind, Hardware, Link

GIB: Final = 2**30

#: The share of an idle device's memory that is free.
IDLE_FREE_SHARE: Final = 0.98

#: Bytes that an idle machine takes of its memory at most; a tenth of a small one's.
SYSTEM_BYTES: Final = 6 * GIB

#: The driver of a described machine: recent, and running CUDA 13.
DRIVER: Final = "580.65.06"

#: Accelerators of a kind that one description may ask for.
MAX_ACCELERATORS: Final = 1024

UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def describe(gpus: str, *, ram: int | None = None) -> Hardware:
    """An idle Linux machine, or a Mac, with these accelerators: ``8xH100-80GB``, ``rtx-4090, 2x3090``, ``none``.

    ``ram`` is in bytes; twice the accelerators' memory, but at least 16 GiB, unless given. Memory that processor and
    accelerator share is the size in the name (``m3-max-64gb``). Raises ConfigurationError.
    """
    groups = list(_parse_groups(gpus))
    members = [accelerator for group in groups for accelerator in group]
    if members and not all(groups):
        raise ConfigurationError(f"'{gpus}' has accelerators and has none.", hint=HOW_TO_DESCRIBE)
    if len({accelerator.kind for accelerator in members}) > 1:
        message = f"One machine has accelerators of one maker, not '{gpus}'."
        raise ConfigurationError(message, hint="Describe two, with --compare.")
    try:
        return _idle_machine(members, ram)
    except ValidationError as error:
        message = f"There is no machine with '{gpus}' and that memory: {in_words(error)}."
        raise ConfigurationError(message, hint=HOW_TO_DESCRIBE) from error


def _idle_machine(members: Sequence[Accelerator], ram: int | None) -> Hardware:
    device_memory = sum(accelerator.memory for accelerator in members)
    shared = sum(accelerator.memory for accelerator in members if accelerator.unified)
    total = shared or ram or max(16 * GIB, 2 * device_memory)
    devices = tuple(_device(accelerator, index) for index, accelerator in enumerate(members))
    kinds = {device.kind for device in devices}
    return Hardware(
        system="Darwin arm64" if "mps" in kinds else "Linux x86_64",
        cpu=Cpu(name="unknown", cores=16),
        total_memory=total,
        free_memory=_idle_free_memory(total),
        devices=devices,
        links=tuple(_links(members, devices)),
        driver=DRIVER if "cuda" in kinds else None,
        cuda=(13, 0) if "cuda" in kinds else None,
    )


def parse_size(text: str) -> int:
    """``64GB``, ``1.5 TiB`` or ``512m`` in bytes, by powers of 1024 as memory is sold. Raises ConfigurationError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if not match or not float(match[1]):
        raise ConfigurationError(f"'{text}' is no amount of memory.", hint="Write it as 64GB or 1TB.")
    return int(float(match[1]) * UNITS[match[2].upper()])


def _parse_groups(gpus: str) -> Iterator[list[Accelerator]]:
    for part in gpus.split(","):
        if part.strip().lower() in ("none", "0", "cpu"):
            yield []
            continue
        match = re.fullmatch(r"\s*(?:(\d+)(?:[xX*]\s*|\s+[xX*]\s+))?(.*?\S)\s*", part)
        if not match or not 1 <= int(match[1] or 1) <= MAX_ACCELERATORS or re.search(r"[-_]{2}|^[-_]|[-_]$", match[2]):
            hint = f"{HOW_TO_DESCRIBE} At most {MAX_ACCELERATORS} of a kind."
            raise ConfigurationError(f"'{part.strip()}' describes no accelerators.", hint=hint)
        yield [_find_sized(match[2])] * int(match[1] or 1)


def _find_sized(name: str) -> Accelerator:
    """The accelerator of this name. Unified memory comes in many sizes: one in the name replaces the catalogue's."""
    plain = re.sub(r"[-_ ]?\d+\s*GB\b", "", name, flags=re.IGNORECASE)
    accelerator = find_accelerator(plain if plain.strip() else name)
    if not accelerator.unified:
        return find_accelerator(name)
    size = re.search(r"(\d+)\s*GB\b", name, re.IGNORECASE)
    return accelerator if size is None else accelerator.model_copy(update={"memory": int(size[1]) * GIB})


def _idle_free_memory(memory: int) -> int:
    """Bytes free of an idle machine's memory."""
    return memory - min(memory // 10, SYSTEM_BYTES)


def _device(accelerator: Accelerator, index: int) -> Device:
    """An idle device; of memory that it shares with the processor no more is free than the processor finds."""
    total = usual_gpu_memory(accelerator.memory) if accelerator.kind == "mps" else accelerator.memory
    free = int(total * IDLE_FREE_SHARE)
    major, _, minor = accelerator.capability.partition(".")
    return Device(
        kind=accelerator.kind,
        index=index,
        name=accelerator.name,
        total_memory=total,
        free_memory=min(free, _idle_free_memory(accelerator.memory)) if accelerator.unified else free,
        compute_capability=(int(major), int(minor)) if minor else None,
        architecture=accelerator.capability if accelerator.kind == "rocm" else None,
        unified=accelerator.unified,
        host_bandwidth=None if accelerator.unified else accelerator.host_bandwidth,
        power_limit=accelerator.watts,
    )


def _links(members: Sequence[Accelerator], devices: Sequence[Device]) -> Iterator[Link]:
    kinds: dict[DeviceKind, Literal["nvlink", "xgmi"]] = {"cuda": "nvlink", "rocm": "xgmi"}
    for first, second in combinations(range(len(devices)), 2):
        accelerator = members[first]
        joined = accelerator.links == "all" or (accelerator.links == "pair" and first % 2 == 0 and second == first + 1)
        if joined and accelerator == members[second]:
            pair = (devices[first].id, devices[second].id)
            yield Link(devices=pair, kind=kinds[accelerator.kind], bandwidth=accelerator.link_bandwidth)
