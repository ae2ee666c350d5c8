"""Accelerators as their makers specify them: the facts that no driver reports.

``accelerators.csv`` holds one row each: dense throughput, bandwidth one way, memory as a driver reports it (``nominal``
where nobody has published that), and the rent where a source can be quoted. All values here are in bytes, bytes per
second and operations per second.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from datetime import date
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Final, Literal

from llama4sdk._values import Value
from llama4sdk.errors import ConfigurationError
from llama4sdk.hardware import Device, DeviceKind

MIB: Final = 2**20

#: Operations for each byte of bandwidth of an unspecified card: as the weakest in the catalogue but the H20.
UNKNOWN_OPERATIONS_PER_BYTE: Final = 75

HOW_TO_DESCRIBE: Final = "Write 8xH100-80GB, 'rtx-4090, rtx-3090', m3-max-64gb or none."


class Rent(Value):
    """The price of renting one accelerator."""

    dollars_per_hour: float
    source: str
    #: The day it was looked up.
    looked_up: date


class Accelerator(Value):
    """One product. A value is ``None`` where it has none, or nobody has published it."""

    name: str
    kind: DeviceKind
    #: A regular expression that is searched for in the name its driver reports.
    driver_name: str
    memory: int
    memory_is: Literal["reported", "nominal"]
    unified: bool
    bandwidth: int
    #: Dense operations per second by number format: ``bf16``, ``fp8``, ``int8``, ``fp4``.
    flops: dict[str, float]
    #: Compute capability or architecture: ``9.0``, ``gfx942``.
    capability: str
    #: The devices of a machine that direct links usually join: none, two by two with a bridge, or all.
    links: Literal["none", "pair", "all"]
    link_bandwidth: int | None
    host_bandwidth: int
    watts: float | None
    confidence: Literal["high", "medium", "low"]
    #: ``None`` where no source can be quoted.
    rent: Rent | None = None


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """All that are known, the usual variant of each product first."""
    with files("llama4sdk.catalog").joinpath("accelerators.csv").open(encoding="utf-8") as file:
        return tuple(_accelerator(row) for row in csv.DictReader(file))


def accelerator_of(device: Device) -> Accelerator | None:
    """The specification of a device, by the name its driver gives it; ``None`` for an unknown one."""
    alike = [accelerator for accelerator in accelerators() if accelerator.kind == device.kind]
    for accelerator in alike:
        if accelerator.name == device.name:  # of a machine that was described
            return accelerator
    for accelerator in alike:
        if re.search(rf"\b(?:{accelerator.driver_name})(?!\w)", device.name, re.IGNORECASE):
            return accelerator
    return None


def facts_of(device: Device) -> Accelerator | None:
    """The specification of a device, or of an unknown one an estimate from the bandwidth its driver reports."""
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
        flops={"bf16": float(UNKNOWN_OPERATIONS_PER_BYTE * device.memory_bandwidth)},
        capability=device.architecture or f"{major}.{minor}",
        links="none",
        link_bandwidth=None,
        host_bandwidth=device.host_bandwidth or 0,
        watts=device.power_limit,
        confidence="low",
    )


def find_accelerator(name: str) -> Accelerator:
    """The accelerator meant by ``H100-80GB``, ``rtx 4090`` or ``a100-40gb``.

    All words of the name must occur in the product's, sizes as whole words; the product with most whole words wins.
    Raises ConfigurationError naming the nearest when there is none.
    """
    words = _words(name)
    matches = [accelerator for accelerator in accelerators() if _matches(accelerator.name, words)]
    if not matches:
        names = {accelerator.name.lower(): accelerator.name for accelerator in accelerators()}
        near = ", ".join(names[key] for key in get_close_matches(name.lower(), names, n=5, cutoff=0.3))
        hint = f"Near it: {near}." if near else HOW_TO_DESCRIBE
        raise ConfigurationError(f"No accelerator is known as '{name}'.", hint=hint)
    return max(matches, key=lambda accelerator: len({*words} & {*_words(accelerator.name)}))  # the first of the best


def _matches(name: str, words: Sequence[str]) -> bool:
    joined = "".join(_words(name))
    sizes = {word for word in words if re.fullmatch(r"\d+gb", word)}
    return bool(words) and sizes <= {*_words(name)} and all(word in joined for word in words)


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9.]+", re.sub(r"(?<=\d)[-_ ]+gb\b", "gb", name.lower()))


def _accelerator(row: dict[str, str]) -> Accelerator:
    formats = {"bf16": "bf16_tflops", "fp8": "fp8_tflops", "int8": "int8_tops", "fp4": "fp4_tflops"}
    rent = {"dollars_per_hour": row["rent_usd_per_hour"], "source": row["rent_source"], "looked_up": row["rent_date"]}
    plain = ("name", "kind", "driver_name", "memory_is", "capability", "links", "confidence")
    return Accelerator.model_validate(
        {
            **{column: row[column] for column in plain},
            "memory": int(row["memory_mib"]) * MIB,
            "unified": bool(row["memory_kind"]),
            "bandwidth": _giga(row["bandwidth_gbs"]),
            "flops": {name: float(row[column]) * 1e12 for name, column in formats.items() if row[column]},
            "link_bandwidth": _giga(row["link_gbs"]),
            "host_bandwidth": _giga(row["host_gbs"]),
            "watts": row["watts"] or None,
            "rent": rent if row["rent_usd_per_hour"] else None,
        }
    )


def _giga(text: str) -> int | None:
    return int(float(text) * 1e9) if text else None


def rent_of(devices: Sequence[Device]) -> Rent | None:
    """The rent of all devices together; ``None`` where one has no known price, or there are none."""
    products = map(accelerator_of, devices)
    known = [product.rent for product in products if product is not None and product.rent is not None]
    if not known or len(known) < len(devices):
        return None
    return Rent(
        dollars_per_hour=sum(rent.dollars_per_hour for rent in known),
        source=", ".join(dict.fromkeys(rent.source for rent in known)),
        looked_up=min(rent.looked_up for rent in known),
    )
