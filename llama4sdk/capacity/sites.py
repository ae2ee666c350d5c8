"""Where the parts of a network lie on a machine, and how fast an engine reads and computes there.

``efficiency.csv`` has the shares of specified bandwidth and throughput that engines reach, by kind of machine; the rows
of an engine's newest version come last. Bandwidth measured on this machine (``llama4sdk.probe.measurements``) replaces
its specification, and the shares are of that.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Final, get_args

from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.layout import Layout, scheme_of
from llama4sdk.capacity.roofline import Calibration, NetworkPart, Site
from llama4sdk.catalog.accelerators import Accelerator, facts_of
from llama4sdk.catalog.speeds import CORE_FLOPS, DISK_BANDWIDTH, HOST_MEMORY_BANDWIDTH, PCIE_SPEED_SHARE
from llama4sdk.hardware import Cpu, Device, Hardware
from llama4sdk.quantization import ModuleClass

EVERYTHING: Final[frozenset[ModuleClass]] = frozenset(get_args(ModuleClass))
EXPERTS: Final[frozenset[ModuleClass]] = frozenset({"experts"})
ALL_BUT_EXPERTS: Final = EVERYTHING - EXPERTS

#: How much wider, each way, the interval of a speed is that rests on memory nobody has measured.
UNMEASURED_FACTOR: Final = 2.0

#: The share of a disk's speed that an engine reaches while it reads experts as they are chosen: a guess.
DISK_SHARE: Final = (0.4, 0.9)


@cache
def calibrations() -> tuple[Calibration, ...]:
    """All rows of ``efficiency.csv``."""
    with files("llama4sdk.capacity").joinpath("efficiency.csv").open(encoding="utf-8") as file:
        return read_calibrations(file)


def read_calibrations(lines: Iterable[str]) -> tuple[Calibration, ...]:
    """The calibrations of a table's lines. Raises ValidationError for a row that cannot be true."""
    return tuple(
        Calibration.model_validate(
            {column: value for column, value in row.items() if not column.endswith(("_low", "_high"))}
            | {column: (row[f"{column}_low"], row[f"{column}_high"]) for column in ("bandwidth", "compute")}
            | {"schemes": tuple(row["schemes"].split())}
        )
        for row in csv.DictReader(lines)
    )


def whole_network(machine: Hardware, engine: EngineProfile, device_id: str, scheme: str) -> NetworkPart | None:
    """A whole network on one device, or in the machine's memory (``cpu``); ``None`` for a device nobody knows."""
    device = next((known for known in machine.devices if known.id == device_id), None)
    if device is None and device_id != "cpu":
        return None
    site = _single_site(device, scheme, machine)
    if site is None:
        return None
    return NetworkPart(modules=EVERYTHING, site=site, calibration=_calibration(device, scheme, engine, machine))


def network_parts(layout: Layout, engine: EngineProfile, machine: Hardware) -> list[NetworkPart] | None:
    """The parts of a layout that are read at different speeds; ``None`` for devices nobody knows."""
    scheme = scheme_of(layout.precision)
    host = whole_network(machine, engine, "cpu", scheme) if "cpu" in layout.devices else None
    if layout.kind == "cpu" and host:
        return [host]
    if layout.kind == "disk" and host:
        return _experts_on_disk(host, machine)
    devices = [device for device in machine.devices if device.id in layout.devices]
    site = _joint_site(layout, devices, machine)
    if site is None:
        return None
    calibration = _calibration(devices[0], scheme, engine, machine)
    if layout.kind == "expert":  # a single token's expert is on one device, a prompt's are on all
        flops = site.flops * len(devices) / layout.tensor
        alone = site.model_copy(update={"bandwidth": site.bandwidth // layout.tensor, "flops": flops})
        return [
            NetworkPart(modules=ALL_BUT_EXPERTS, site=site, calibration=calibration),
            NetworkPart(modules=EXPERTS, site=alone, calibration=calibration),
        ]
    whole = NetworkPart(modules=EVERYTHING, site=site, calibration=calibration)
    if layout.kind != "offload" or host is None:
        return [whole]
    experts = [share.weights.get("experts", 0) for share in layout.shares]
    on_host = experts[-1] / sum(experts)
    return [
        whole.model_copy(update={"experts": 1 - on_host}),
        host.model_copy(update={"modules": EXPERTS, "experts": on_host}),
    ]


def shared_memory_bandwidth(machine: Hardware) -> int | None:
    """Bytes per second of the memory that processor and accelerator share; ``None`` where they share none."""
    shared = (facts.bandwidth for device in machine.devices if device.unified and (facts := facts_of(device)))
    return next(shared, None)


def _experts_on_disk(host: NetworkPart, machine: Hardware) -> list[NetworkPart] | None:
    bandwidth = machine.disk_bandwidth or (machine.disk_kind and DISK_BANDWIDTH.get(machine.disk_kind))
    if not bandwidth:
        return None
    reading = host.calibration.model_copy(update={"bandwidth": DISK_SHARE, "label": "guessed"})
    disk = Site(name="disk", bandwidth=int(bandwidth), flops=host.site.flops)
    return [
        host.model_copy(update={"modules": ALL_BUT_EXPERTS}),
        NetworkPart(modules=EXPERTS, site=disk, calibration=reading),
    ]


def _single_site(device: Device | None, scheme: str, machine: Hardware) -> Site | None:
    """One device, or the processor (``None``); nothing for a device nobody knows.

    A slice of a card has nearly as much of its speed as of its memory.
    """
    if device is None:
        bandwidth = machine.memory_bandwidth or shared_memory_bandwidth(machine) or HOST_MEMORY_BANDWIDTH
        flops = _core_flops(machine.cpu) * machine.cpu.cores
        return Site(name=machine.cpu.name, bandwidth=bandwidth, flops=flops)
    facts = facts_of(device)
    if facts is None:
        return None
    share = min(1.0, device.total_memory / facts.memory) if device.slice else 1.0
    return Site(name=device.id, bandwidth=int(facts.bandwidth * share), flops=_device_flops(facts, scheme) * share)


def _joint_site(layout: Layout, devices: Sequence[Device], machine: Hardware) -> Site | None:
    """Devices that work together add up; of those that wait for each other each reads its own share."""
    scheme = scheme_of(layout.precision)
    sites = {device.id: site for device in devices if (site := _single_site(device, scheme, machine))}
    if len(sites) < len(devices):
        return None
    if layout.kind not in ("layers", "offload"):
        first = sites[devices[0].id]
        joined = layout.tensor == 1 or _all_linked(devices, machine)
        together = layout.tensor * (1.0 if joined else PCIE_SPEED_SHARE)
        return Site(name=first.name, bandwidth=int(first.bandwidth * together), flops=first.flops * together)
    sizes = {share.device: sum(share.weights.values()) for share in layout.shares if share.device in sites}
    total = sum(sizes.values())
    reading = sum(size / sites[device].bandwidth for device, size in sizes.items())
    computing = sum(size / sites[device].flops for device, size in sizes.items())
    return Site(name="layers", bandwidth=int(total / reading), flops=total / computing)


def _all_linked(devices: Sequence[Device], machine: Hardware) -> bool:
    ids = {device.id for device in devices}
    pairs = sum(set(link.devices) <= ids and link.kind != "peer" for link in machine.links)
    return pairs == len(ids) * (len(ids) - 1) // 2


def _core_flops(cpu: Cpu) -> float:
    return next(flops for feature, flops in CORE_FLOPS if feature in (*cpu.features, ""))


def _device_flops(facts: Accelerator, scheme: str) -> float:
    """Operations per second in the format that weights of this scheme are computed in."""
    scheme = "bf16" if scheme in ("int4", "int8", "gguf") else scheme
    return facts.flops.get(scheme) or facts.flops.get("bf16") or facts.flops.get("int8", 1e13)


def _calibration(device: Device | None, scheme: str, engine: EngineProfile, machine: Hardware) -> Calibration:
    """The engine's calibration for a device or the processor; wider for memory that nobody has measured."""
    if device is not None:
        facts = facts_of(device)
        return _newest(engine, "unified" if facts and facts.unified else "accelerator", scheme)
    calibration = _newest(engine, "cpu", scheme)
    if machine.memory_bandwidth is not None:
        return calibration
    low, high = calibration.bandwidth
    if shared_memory_bandwidth(machine) is None:  # of a shared pool a processor may reach less, but no more
        high *= UNMEASURED_FACTOR
    return calibration.model_copy(update={"bandwidth": (low / UNMEASURED_FACTOR, high), "label": "guessed"})


def _newest(engine: EngineProfile, site: str, scheme: str) -> Calibration:
    """The newest calibration of the engine on such a site: of weights in this scheme, or of any."""
    known = [c for c in reversed(calibrations()) if (c.engine, c.site) == (engine.name, site)]
    return next((c for c in known if scheme in c.schemes), next(c for c in known if not c.schemes))
