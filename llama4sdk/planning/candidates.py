"""Layouts with their predicted speeds, in the order of what is wanted. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Literal

from llama4sdk._values import Value
from llama4sdk.hardware import Cpu, Device, Hardware
from llama4sdk.planning.accelerators import Accelerator, accelerator_of
from llama4sdk.planning.engines import ENGINES, EngineProfile
from llama4sdk.planning.layouts import Layout, Model, class_bytes, layouts, scheme_of
from llama4sdk.planning.policy import Preference
from llama4sdk.planning.quantization import ModuleClass
from llama4sdk.planning.speed import CALIBRATIONS, Calibration, Interval, Part, Site, decode_speed, prefill_speed

__all__ = ["Candidate", "best_of_each", "candidates", "part_alone", "rank"]

EVERYTHING: Final[frozenset[ModuleClass]] = frozenset(
    {"attention", "experts", "shared_expert", "dense", "router", "norms", "embedding", "head", "vision"}
)
EXPERTS: Final[frozenset[ModuleClass]] = frozenset({"experts"})

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

BITS: Final = {"fp32": 32, "bf16": 16, "fp8": 8, "int8": 8, "Q8_0": 8, "Q6_K": 6, "Q5_K_M": 5, "Q3_K_M": 3, "Q2_K": 2}
"""Bits of a weight, nearly; 4 where nothing is said."""


class Candidate(Value):
    """One layout and how fast it would be; ``None`` where too little is known."""

    layout: Layout
    decode: Interval | None
    """Tokens per second of one answer behind a short prompt."""
    prefill: Interval | None
    label: Literal["modelled", "guessed"]
    """Whether the engine has been measured on such a machine, or is taken to be like others."""

    @property
    def bits(self) -> int:
        """Of a weight, nearly."""
        return BITS.get(self.layout.precision, 4)


def candidates(
    models: Sequence[Model],
    machine: Hardware,
    *,
    engines: Sequence[EngineProfile] = ENGINES,
    context: int | None = None,
    batch: int = 1,
) -> Iterator[Candidate]:
    """Every layout of every model in every precision that the engines know, those that do not fit included."""
    for model in models:
        for engine in engines:
            for precision in engine.precisions:
                for layout in layouts(model, engine, machine, precision, context=context, batch=batch):
                    yield _timed(layout, model, engine, machine)


def rank(found: Sequence[Candidate], prefer: Preference = "balanced") -> list[Candidate]:
    """Those that fit and are not refused, best first."""
    usable = [candidate for candidate in found if candidate.layout.fits and candidate.layout.support[0] != "refused"]
    return sorted(usable, key=_KEYS[prefer])


def best_of_each(found: Sequence[Candidate], prefer: Preference = "balanced") -> list[Candidate]:
    """For every model, engine and precision the best layout; where none can run, the one that lacks least."""
    kinds = dict.fromkeys((c.layout.model, c.layout.engine, c.layout.precision) for c in found)
    chosen = []
    for kind in kinds:
        alike = [c for c in found if (c.layout.model, c.layout.engine, c.layout.precision) == kind]
        chosen.append((rank(alike, prefer) or sorted(alike, key=lambda c: c.layout.missing))[0])
    return chosen


def _speed(candidate: Candidate) -> float:
    return -candidate.decode.middle if candidate.decode else 0.0


def _place(candidate: Candidate) -> int:
    """Accelerators alone, with the machine's memory, the machine's memory alone, the disk."""
    return {"offload": 1, "cpu": 2, "disk": 3}.get(candidate.layout.kind, 0)


_KEYS: Final[dict[Preference, Callable[[Candidate], tuple[float, ...]]]] = {
    "balanced": lambda c: (_place(c), -min(c.bits, 16), _speed(c)),
    "quality": lambda c: (-min(c.bits, 16), _place(c), _speed(c)),
    "speed": lambda c: (_speed(c), -c.bits),
    "context": lambda c: (-c.layout.context, _place(c), -c.bits, _speed(c)),
}


def part_alone(machine: Hardware, engine: EngineProfile, device: str, scheme: str) -> Part | None:
    """A whole network at one place, ``cpu`` or a device's id; ``None`` for a device nobody knows."""
    if device == "cpu":
        site, calibration = _cpu(machine, engine, scheme)
        return Part(modules=EVERYTHING, site=site, calibration=calibration)
    found = next((known for known in machine.devices if known.id == device), None)
    facts = accelerator_of(found) if found else None
    if found is None or facts is None:
        return None
    site = Site(name=facts.name, bandwidth=int(facts.bandwidth), flops=_flops(facts, scheme))
    kind = "unified" if found.unified else "accelerator"
    return Part(modules=EVERYTHING, site=site, calibration=_calibration(engine, kind, scheme))


def _flops(facts: Accelerator, scheme: str) -> float:
    """In the format that weights of this scheme are computed in."""
    scheme = {"int4": "bf16", "int8": "bf16"}.get(scheme, scheme)
    return facts.flops.get(scheme) or facts.flops.get("bf16") or facts.flops.get("int8", 1e13)


def _timed(layout: Layout, model: Model, engine: EngineProfile, machine: Hardware) -> Candidate:
    parts = _parts(layout, engine, machine)
    if parts is None:
        return Candidate(layout=layout, decode=None, prefill=None, label="guessed")
    weights = class_bytes(model, layout.precision)
    guessed = any(part.calibration.label == "guessed" for part in parts)
    return Candidate(
        layout=layout,
        decode=decode_speed(model.config, weights, parts, context=min(layout.context, 512)),
        prefill=prefill_speed(model.config, parts, tokens=512),
        label="guessed" if guessed else "modelled",
    )


def _parts(layout: Layout, engine: EngineProfile, machine: Hardware) -> list[Part] | None:
    """What is read where. ``None`` for devices nobody knows."""
    scheme = scheme_of(layout.precision)
    cpu = _cpu(machine, engine, scheme) if "cpu" in layout.devices else None
    if layout.kind == "cpu" and cpu:
        return [Part(modules=EVERYTHING, site=cpu[0], calibration=cpu[1])]
    if layout.kind == "disk" and cpu:
        speed = DISK.get(machine.disk_kind or "")
        if speed is None:
            return None
        reading = cpu[1].model_copy(update={"bandwidth": (0.4, 0.9), "label": "guessed"})
        disk = Site(name="disk", bandwidth=int(speed), flops=cpu[0].flops)
        return [
            Part(modules=EVERYTHING - EXPERTS, site=cpu[0], calibration=cpu[1]),
            Part(modules=EXPERTS, site=disk, calibration=reading),
        ]
    devices = [device for device in machine.devices if device.id in layout.devices]
    site = _site(layout, devices, machine)
    if site is None:
        return None
    calibration = _calibration(engine, "unified" if devices[0].unified else "accelerator", scheme)
    if layout.kind != "offload" or cpu is None:
        return [Part(modules=EVERYTHING, site=site, calibration=calibration)]
    left = layout.shares[1].weights["experts"] / sum(share.weights.get("experts", 0) for share in layout.shares)
    return [
        Part(modules=EVERYTHING, site=site, calibration=calibration, experts=1 - left),
        Part(modules=EXPERTS, site=cpu[0], calibration=cpu[1], experts=left),
    ]


def _site(layout: Layout, devices: Sequence[Device], machine: Hardware) -> Site | None:
    """Devices that work together add up; of those that wait for each other each reads its own share."""
    known = [accelerator_of(device) for device in devices]
    if any(accelerator is None for accelerator in known):
        return None
    facts = [accelerator for accelerator in known if accelerator is not None]
    flops = [_flops(fact, scheme_of(layout.precision)) for fact in facts]
    if layout.kind != "layers":
        together = len(devices) * (1.0 if len(devices) == 1 or _linked(devices, machine) else PCIE_PENALTY)
        return Site(name=facts[0].name, bandwidth=int(facts[0].bandwidth * together), flops=flops[0] * together)
    sizes = [sum(share.weights.values()) for share in layout.shares]
    reading = sum(size / fact.bandwidth for size, fact in zip(sizes, facts, strict=True))
    computing = sum(size / each for size, each in zip(sizes, flops, strict=True))
    return Site(name="layers", bandwidth=int(sum(sizes) / reading), flops=sum(sizes) / computing)


def _linked(devices: Sequence[Device], machine: Hardware) -> bool:
    ids = {device.id for device in devices}
    pairs = sum(set(link.devices) <= ids and link.kind != "peer" for link in machine.links)
    return pairs == len(ids) * (len(ids) - 1) // 2


def _cpu(machine: Hardware, engine: EngineProfile, scheme: str) -> tuple[Site, Calibration]:
    site = Site(
        name=machine.cpu.name,
        bandwidth=machine.memory_bandwidth or USUAL_MEMORY,
        flops=_core(machine.cpu) * machine.cpu.cores,
    )
    calibration = _calibration(engine, "cpu", scheme)
    if machine.memory_bandwidth is not None:
        return site, calibration
    low, high = calibration.bandwidth
    return site, calibration.model_copy(update={"bandwidth": (low / UNMEASURED, high * UNMEASURED), "label": "guessed"})


def _core(cpu: Cpu) -> float:
    return next(flops for feature, flops in CORE_FLOPS if feature in (*cpu.features, ""))


def _calibration(engine: EngineProfile, site: str, scheme: str) -> Calibration:
    """The newest of this engine on such a site: of weights held so, or of any."""
    known = [c for c in reversed(CALIBRATIONS) if (c.engine, c.site) == (engine.calibration, site)]
    return next((c for c in known if scheme in c.schemes), next(c for c in known if not c.schemes))
