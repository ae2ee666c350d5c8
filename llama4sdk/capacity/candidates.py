"""Layouts with their predicted speeds. What of them is wanted, ``preferences`` says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from llama4sdk._values import Value
from llama4sdk.capacity.efficiency import calibrations
from llama4sdk.capacity.engine_profiles import ENGINES, EngineProfile
from llama4sdk.capacity.layouts import Layout, class_bytes, layouts, scheme_of
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.ranking import PREFERENCES, best_of_each, rank
from llama4sdk.capacity.roofline import (
    Calibration,
    ClassBytes,
    Interval,
    Part,
    Site,
    decode_speed,
    prefill_speed,
)
from llama4sdk.catalog.accelerators import Accelerator, accelerator_of, facts_of
from llama4sdk.hardware import Cpu, Device, Hardware
from llama4sdk.quantization import ModuleClass

__all__ = [
    "PREFERENCES",
    "SHORT",
    "Candidate",
    "best_of_each",
    "candidates",
    "part_alone",
    "parts_of",
    "pool_of",
    "rank",
    "timed",
]

EVERYTHING: Final[frozenset[ModuleClass]] = frozenset(
    {"attention", "experts", "shared_expert", "dense", "router", "norms", "embedding", "head", "vision"}
)
EXPERTS: Final[frozenset[ModuleClass]] = frozenset({"experts"})

SHORT: Final = 512
"""Tokens of the prompt that speeds are predicted for."""

USUAL_MEMORY: Final = 60_000_000_000
"""Bytes per second of a processor's memory that nobody has measured: between a laptop's and a server's."""

UNMEASURED: Final = 2.0
"""How much wider an interval is for it, each way."""

CORE_FLOPS: Final = (("amx_bf16", 1.0e12), ("avx512_bf16", 2.0e11), ("avx512f", 1.5e11), ("avx2", 6.0e10), ("", 3.0e10))
"""Operations per second and core in bf16 or fp32, by the best instruction set it has."""

DISK: Final = {"nvme": 3.5e9, "ssd": 5e8, "hdd": 1.5e8, "network": 2e8}
"""Bytes per second of reading."""

PCIE_PENALTY: Final = 0.6
"""What is left of the speed of several devices without direct links between them."""

BITS: Final = {"fp32": 32, "bf16": 16, "fp16": 16, "fp8": 8, "int8": 8, "Q8": 8, "Q6": 6, "Q5": 5, "Q3": 3, "Q2": 2}
"""Bits of a weight, nearly; 4 where nothing is said."""


class Candidate(Value):
    """One layout and how fast it would be; ``None`` where too little is known."""

    layout: Layout
    decode: Interval | None
    """Tokens per second of all the answers of the layout's batch together, behind short prompts."""
    prefill: Interval | None
    label: Literal["modelled", "guessed"]
    """Whether the engine has been measured on such a machine, or is taken to be like others."""

    @property
    def bits(self) -> int:
        """Of a weight, nearly."""
        precision = self.layout.precision.partition(" ")[0]
        return next((bits for name, bits in BITS.items() if precision.startswith(name)), 4)


def candidates(
    models: Sequence[ModelFacts],
    machine: Hardware,
    *,
    engines: Sequence[EngineProfile] = ENGINES,
    context: int | None = None,
    batch: int = 1,
    kv_bytes: float = 2,
) -> Iterator[Candidate]:
    """Every layout of every model in every precision that the engines know, those that do not fit included."""
    for model in models:
        for engine in engines:
            for precision in _precisions(model, engine):
                for layout in layouts(
                    model, engine, machine, precision, context=context, batch=batch, kv_bytes=kv_bytes
                ):
                    yield timed(layout, model, engine, machine)


def _precisions(model: ModelFacts, engine: EngineProfile) -> tuple[str, ...]:
    """Those the engine makes, behind the form a checkpoint has already."""
    stored = model.stored
    own = (stored.precision,) if stored is not None and engine.name in stored.engines else ()
    return own + engine.precisions


def part_alone(machine: Hardware, engine: EngineProfile, device: str, scheme: str) -> Part | None:
    """A whole network at one place, ``cpu`` or a device's id; ``None`` for a device nobody knows."""
    found = next((known for known in machine.devices if known.id == device), None)
    if found is None and device != "cpu":
        return None
    site = _site_of(found, scheme, machine)
    if site is None:
        return None
    return Part(modules=EVERYTHING, site=site, calibration=_calibration_of(found, scheme, engine, machine))


def _site_of(device: Device | None, scheme: str, machine: Hardware) -> Site | None:
    """One place alone: a device, or the processor (``None``); nothing for a device nobody knows.

    A slice of a card has nearly as much of its speed as of its memory.
    """
    if device is None:
        bandwidth = machine.memory_bandwidth or pool_of(machine) or USUAL_MEMORY
        return Site(name=machine.cpu.name, bandwidth=bandwidth, flops=_core(machine.cpu) * machine.cpu.cores)
    facts = facts_of(device)
    if facts is None:
        return None
    part = min(1.0, device.total_memory / facts.memory) if device.slice else 1.0
    return Site(name=device.id, bandwidth=int(facts.bandwidth * part), flops=_flops(facts, scheme) * part)


def pool_of(machine: Hardware) -> int | None:
    """Bytes per second of the memory that processor and accelerator share; ``None`` where they share none."""
    shared = (facts.bandwidth for device in machine.devices if device.unified and (facts := facts_of(device)))
    return next(shared, None)


def _calibration_of(device: Device | None, scheme: str, engine: EngineProfile, machine: Hardware) -> Calibration:
    """How far the engine gets there; less surely in memory that nobody has measured."""
    if device is not None:
        facts = facts_of(device)
        return _calibration(engine, "unified" if facts and facts.unified else "accelerator", scheme)
    found = _calibration(engine, "cpu", scheme)
    if machine.memory_bandwidth is not None:
        return found
    low, high = found.bandwidth
    most = high if pool_of(machine) else high * UNMEASURED  # of a pool a processor may reach less, but no more
    return found.model_copy(update={"bandwidth": (low / UNMEASURED, most), "label": "guessed"})


def _flops(facts: Accelerator, scheme: str) -> float:
    """In the format that weights of this scheme are computed in."""
    scheme = "bf16" if scheme in ("int4", "int8", "gguf") else scheme
    return facts.flops.get(scheme) or facts.flops.get("bf16") or facts.flops.get("int8", 1e13)


def timed(
    layout: Layout,
    model: ModelFacts,
    engine: EngineProfile,
    machine: Hardware,
    *,
    weights: ClassBytes | None = None,
) -> Candidate:
    """A layout with its predicted speeds. ``weights`` are what its precision says, unless given."""
    parts = parts_of(layout, engine, machine)
    if parts is None:
        return Candidate(layout=layout, decode=None, prefill=None, label="guessed")
    weights = weights or class_bytes(model, layout.precision)
    strange = any(d.id in layout.devices and accelerator_of(d) is None for d in machine.devices)
    guessed = strange or any(part.calibration.label == "guessed" for part in parts)
    context, batch = min(layout.context, SHORT), layout.batch if engine.shares_steps else 1
    return Candidate(
        layout=layout,
        decode=decode_speed(model.config, weights, parts, context=context, batch=batch, value_bytes=layout.kv_bytes),
        prefill=prefill_speed(model.config, parts, tokens=SHORT),
        label="guessed" if guessed else "modelled",
    )


def parts_of(layout: Layout, engine: EngineProfile, machine: Hardware) -> list[Part] | None:
    """What is read where. ``None`` for devices nobody knows."""
    scheme = scheme_of(layout.precision)
    host = part_alone(machine, engine, "cpu", scheme) if "cpu" in layout.devices else None
    if layout.kind == "cpu" and host:
        return [host]
    if layout.kind == "disk" and host:
        speed = machine.disk_bandwidth or DISK.get(machine.disk_kind or "")
        if speed is None:
            return None
        reading = host.calibration.model_copy(update={"bandwidth": (0.4, 0.9), "label": "guessed"})
        disk = Site(name="disk", bandwidth=int(speed), flops=host.site.flops)
        return [
            host.model_copy(update={"modules": EVERYTHING - EXPERTS}),
            Part(modules=EXPERTS, site=disk, calibration=reading),
        ]
    devices = [device for device in machine.devices if device.id in layout.devices]
    site = _site(layout, devices, machine)
    if site is None:
        return None
    calibration = _calibration_of(devices[0], scheme, engine, machine)
    if layout.kind == "expert":  # a single token's expert is on one device, a prompt's are on all
        alone = site.model_copy(
            update={"bandwidth": site.bandwidth // layout.tensor, "flops": site.flops * len(devices) / layout.tensor}
        )
        return [
            Part(modules=EVERYTHING - EXPERTS, site=site, calibration=calibration),
            Part(modules=EXPERTS, site=alone, calibration=calibration),
        ]
    if layout.kind != "offload" or host is None:
        return [Part(modules=EVERYTHING, site=site, calibration=calibration)]
    left = layout.shares[-1].weights["experts"] / sum(share.weights.get("experts", 0) for share in layout.shares)
    return [
        Part(modules=EVERYTHING, site=site, calibration=calibration, experts=1 - left),
        host.model_copy(update={"modules": EXPERTS, "experts": left}),
    ]


def _site(layout: Layout, devices: Sequence[Device], machine: Hardware) -> Site | None:
    """Devices that work together add up; of those that wait for each other each reads its own share."""
    scheme = scheme_of(layout.precision)
    sites = {device.id: site for device in devices if (site := _site_of(device, scheme, machine))}
    if len(sites) < len(devices):
        return None
    if layout.kind not in ("layers", "offload"):
        first = sites[devices[0].id]
        together = layout.tensor * (1.0 if layout.tensor == 1 or _linked(devices, machine) else PCIE_PENALTY)
        return Site(name=first.name, bandwidth=int(first.bandwidth * together), flops=first.flops * together)
    sizes = {share.device: sum(share.weights.values()) for share in layout.shares if share.device in sites}
    reading = sum(size / sites[at].bandwidth for at, size in sizes.items())
    computing = sum(size / sites[at].flops for at, size in sizes.items())
    return Site(name="layers", bandwidth=int(sum(sizes.values()) / reading), flops=sum(sizes.values()) / computing)


def _linked(devices: Sequence[Device], machine: Hardware) -> bool:
    ids = {device.id for device in devices}
    pairs = sum(set(link.devices) <= ids and link.kind != "peer" for link in machine.links)
    return pairs == len(ids) * (len(ids) - 1) // 2


def _core(cpu: Cpu) -> float:
    return next(flops for feature, flops in CORE_FLOPS if feature in (*cpu.features, ""))


def _calibration(engine: EngineProfile, site: str, scheme: str) -> Calibration:
    """The newest of this engine on such a site: of weights held so, or of any."""
    known = [c for c in reversed(calibrations()) if (c.engine, c.site) == (engine.calibration, site)]
    return next((c for c in known if scheme in c.schemes), next(c for c in known if not c.schemes))
