"""What accelerators are specified to do: the facts no driver tells, and machines to plan for without owning them.

``accelerators.csv`` holds one row each, as their makers specify them: dense throughput, bandwidth one way, and memory
as a driver reports it (``nominal`` where nobody has published what it reports). All values here are in bytes, bytes
per second and operations per second.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from datetime import date
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Final, Literal

from pydantic import ValidationError

from llama4sdk._text import in_words
from llama4sdk._values import Value
from llama4sdk.catalog.unified_memory import usual_gpu_memory
from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Cpu, Device, DeviceKind, Hardware, Link

__all__ = [
    "RENTS",
    "Accelerator",
    "Rent",
    "accelerator_of",
    "accelerators",
    "describe",
    "facts_of",
    "find_accelerator",
    "parse_size",
    "rent_of",
]

GIB: Final = 2**30
MIB: Final = 2**20
FREE: Final = 0.98
"""The share of an idle device's memory that is free."""

SYSTEM: Final = 6 * GIB
"""What an idle machine takes of its memory at most, and a tenth of a small one's."""

OPERATIONS: Final = 75
"""For each byte of bandwidth, of a card that nobody has specified: what the weakest in the catalogue has but H20's."""

DRIVER: Final = "580.65.06"
"""What an imagined machine has: recent, and running CUDA 13."""

MOST: Final = 1024
"""Accelerators of a kind that one description may ask for."""

HOW_TO_WRITE: Final = "Write 8xH100-80GB, 'rtx-4090, rtx-3090', m3-max-64gb or none."

UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Accelerator(Value):
    """One product. ``None`` is what it cannot do, or nobody has published."""

    name: str
    kind: DeviceKind
    driver_name: str
    """What its drivers call it: a regular expression that is searched for."""
    memory: int
    memory_is: Literal["reported", "nominal"]
    unified: bool
    bandwidth: int
    flops: dict[str, float]
    """Dense operations per second by number format: ``bf16``, ``fp8``, ``int8``, ``fp4``."""
    capability: str
    """Compute capability or architecture: ``9.0``, ``gfx942``."""
    links: Literal["none", "pair", "all"]
    """What direct links usually join: none, devices two by two with a bridge, or all of a machine."""
    link_bandwidth: int | None
    host_bandwidth: int
    watts: float | None
    confidence: Literal["high", "medium", "low"]


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """All that are known, the usual variant of each product first."""
    with files("llama4sdk.catalog").joinpath("accelerators.csv").open(encoding="utf-8") as file:
        return tuple(_accelerator(row) for row in csv.DictReader(file))


def accelerator_of(device: Device) -> Accelerator | None:
    """What this device is specified to do, by the name its driver gives it; ``None`` for an unknown one."""
    alike = [accelerator for accelerator in accelerators() if accelerator.kind == device.kind]
    for accelerator in alike:
        if accelerator.name == device.name:  # of a machine that was described
            return accelerator
    for accelerator in alike:
        if re.search(rf"\b(?:{accelerator.driver_name})(?!\w)", device.name, re.IGNORECASE):
            return accelerator
    return None


def facts_of(device: Device) -> Accelerator | None:
    """The same, or what can be said of an unknown one from the bandwidth its driver tells, with low confidence."""
    known = accelerator_of(device)
    if known is not None or device.memory_bandwidth is None:
        return known
    major, minor = device.compute_capability or (0, 0)
    return Accelerator(
        name=device.name,
        kind=device.kind,
        driver_name=re.escape(device.name),
        memory=device.total_memory,
        memory_is="reported",
        unified=device.unified,
        bandwidth=device.memory_bandwidth,
        flops={"bf16": float(OPERATIONS * device.memory_bandwidth)},
        capability=device.architecture or f"{major}.{minor}",
        links="none",
        link_bandwidth=None,
        host_bandwidth=device.host_bandwidth or 0,
        watts=device.power_limit,
        confidence="low",
    )


def find_accelerator(name: str) -> Accelerator:
    """The one meant by ``H100-80GB``, ``rtx 4090`` or ``a100-40gb``: all words match, sizes wholly, whole ones best.

    Raises ConfigurationError naming the nearest when there is none.
    """
    wanted = _words(name)
    hits = [accelerator for accelerator in accelerators() if _mentions(accelerator.name, wanted)]
    if not hits:
        names = {accelerator.name.lower(): accelerator.name for accelerator in accelerators()}
        near = [names[match] for match in get_close_matches(name.lower(), names, n=5, cutoff=0.3)]
        raise ConfigurationError(
            f"No accelerator is known as '{name}'.", hint=f"Near it: {', '.join(near)}." if near else HOW_TO_WRITE
        )
    return max(hits, key=lambda accelerator: len({*wanted} & {*_words(accelerator.name)}))  # the first of the best


def describe(gpus: str, *, ram: int | None = None) -> Hardware:
    """An idle Linux machine, or a Mac, with these accelerators: ``8xH100-80GB``, ``rtx-4090, 2x3090``, ``none``.

    ``ram`` is in bytes; twice the accelerators' memory, but at least 16 GiB, unless given. Memory that processor and
    accelerator share is what the name says (``m3-max-64gb``). Raises ConfigurationError.
    """
    parts = list(_parts(gpus))
    chosen = [accelerator for part in parts for accelerator in part]
    if chosen and not all(parts):
        raise ConfigurationError(f"'{gpus}' has accelerators and has none.", hint=HOW_TO_WRITE)
    if len({accelerator.kind for accelerator in chosen}) > 1:
        raise ConfigurationError(
            f"One machine has accelerators of one maker, not '{gpus}'.", hint="Describe two, with --compare."
        )
    try:
        return _imagined(chosen, ram)
    except ValidationError as error:
        raise ConfigurationError(
            f"There is no machine with '{gpus}' and that memory: {in_words(error)}.", hint=HOW_TO_WRITE
        ) from error


def _imagined(chosen: Sequence[Accelerator], ram: int | None) -> Hardware:
    own = sum(accelerator.memory for accelerator in chosen)
    shared = sum(accelerator.memory for accelerator in chosen if accelerator.unified)
    total = shared or ram or max(16 * GIB, 2 * own)
    devices = tuple(_device(accelerator, index) for index, accelerator in enumerate(chosen))
    nvidia = any(device.kind == "cuda" for device in devices)
    apple = any(device.kind == "mps" for device in devices)
    return Hardware(
        system="Darwin arm64" if apple else "Linux x86_64",
        cpu=Cpu(name="unknown", cores=16),
        total_memory=total,
        free_memory=_idle(total),
        devices=devices,
        links=tuple(_links(chosen, devices)),
        driver=DRIVER if nvidia else None,
        cuda=(13, 0) if nvidia else None,
    )


def parse_size(text: str) -> int:
    """``64GB``, ``1.5 TiB`` or ``512m`` in bytes, by powers of 1024 as memory is sold. Raises ConfigurationError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", text, re.IGNORECASE)
    if not found or not float(found[1]):
        raise ConfigurationError(f"'{text}' is no amount of memory.", hint="Write it as 64GB or 1TB.")
    return int(float(found[1]) * UNITS[found[2].upper()])


def _parts(gpus: str) -> Iterator[list[Accelerator]]:
    for part in gpus.split(","):
        if part.strip().lower() in ("none", "0", "cpu"):
            yield []
            continue
        found = re.fullmatch(r"\s*(?:(\d+)(?:[xX*]\s*|\s+[xX*]\s+))?(.*?\S)\s*", part)
        if not found or not 1 <= int(found[1] or 1) <= MOST or re.search(r"[-_]{2}|^[-_]|[-_]$", found[2]):
            raise ConfigurationError(
                f"'{part.strip()}' describes no accelerators.", hint=f"{HOW_TO_WRITE} At most {MOST} of a kind."
            )
        yield [_sized(found[2])] * int(found[1] or 1)


def _sized(name: str) -> Accelerator:
    """Unified memory comes in many sizes: the name's own, if it says one, goes before the catalogue's."""
    plain = re.sub(r"[-_ ]?\d+\s*GB\b", "", name, flags=re.IGNORECASE)
    accelerator = find_accelerator(plain if plain.strip() else name)
    if not accelerator.unified:
        return find_accelerator(name)
    size = re.search(r"(\d+)\s*GB\b", name, re.IGNORECASE)
    return accelerator if size is None else accelerator.model_copy(update={"memory": int(size[1]) * GIB})


def _idle(memory: int) -> int:
    """What an idle machine has free of it."""
    return memory - min(memory // 10, SYSTEM)


def _device(accelerator: Accelerator, index: int) -> Device:
    """An idle one; of memory that it shares with the processor as much is free as the processor finds."""
    total = usual_gpu_memory(accelerator.memory) if accelerator.kind == "mps" else accelerator.memory
    free = int(total * FREE)
    major, _, minor = accelerator.capability.partition(".")
    return Device(
        kind=accelerator.kind,
        index=index,
        name=accelerator.name,
        total_memory=total,
        free_memory=min(free, _idle(accelerator.memory)) if accelerator.unified else free,
        compute_capability=(int(major), int(minor)) if minor else None,
        architecture=accelerator.capability if accelerator.kind == "rocm" else None,
        unified=accelerator.unified,
        host_bandwidth=None if accelerator.unified else accelerator.host_bandwidth,
        power_limit=accelerator.watts,
    )


def _links(chosen: Sequence[Accelerator], devices: Sequence[Device]) -> Iterator[Link]:
    kinds: dict[DeviceKind, Literal["nvlink", "xgmi"]] = {"cuda": "nvlink", "rocm": "xgmi"}
    for one, other in combinations(range(len(devices)), 2):
        accelerator = chosen[one]
        joined = accelerator.links == "all" or (accelerator.links == "pair" and one % 2 == 0 and other == one + 1)
        if joined and accelerator == chosen[other]:
            pair = (devices[one].id, devices[other].id)
            yield Link(devices=pair, kind=kinds[accelerator.kind], bandwidth=accelerator.link_bandwidth)


def _mentions(name: str, wanted: Sequence[str]) -> bool:
    run_together = "".join(_words(name))
    sizes = {word for word in wanted if re.fullmatch(r"\d+gb", word)}
    return bool(wanted) and sizes <= {*_words(name)} and all(word in run_together for word in wanted)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9.]+", re.sub(r"(?<=\d)[-_ ]+gb\b", "gb", name.lower()))


def _accelerator(row: dict[str, str]) -> Accelerator:
    formats = {"bf16": "bf16_tflops", "fp8": "fp8_tflops", "int8": "int8_tops", "fp4": "fp4_tflops"}
    return Accelerator.model_validate(
        {
            **{key: row[key] for key in ("name", "kind", "driver_name", "memory_is", "capability", "links")},
            "confidence": row["confidence"],
            "memory": int(row["memory_mib"]) * MIB,
            "unified": bool(row["memory_kind"]),
            "bandwidth": _giga(row["bandwidth_gbs"]),
            "flops": {name: float(row[column]) * 1e12 for name, column in formats.items() if row[column]},
            "link_bandwidth": _giga(row["link_gbs"]),
            "host_bandwidth": _giga(row["host_gbs"]),
            "watts": float(row["watts"]) if row["watts"] else None,
        }
    )


def _giga(text: str) -> int | None:
    return int(float(text) * 1e9) if text else None


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
