"""Every way an engine could lay a model over a machine, with the bytes on each device. Pure.

A layout that does not fit is one, too: what it lacks, and where, is the answer to "why not".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from llama4sdk._values import Value
from llama4sdk.hardware import Cpu, Device, Hardware
from llama4sdk.llama4.config import TextConfig
from llama4sdk.planning import estimate
from llama4sdk.planning.engines import EngineProfile, LayoutKind
from llama4sdk.planning.gguf_mixes import GGUF_MIXES, gguf_class_bytes
from llama4sdk.planning.quantization import LINEAR, ModuleClass, QuantizationConfig
from llama4sdk.planning.support import WORST_LAST, Support, support
from llama4sdk.text import gb

__all__ = ["Layout", "Model", "Share", "Stored", "class_bytes", "layouts", "scheme_of"]

AS_STORED: Final = " as stored"

USUAL_CONTEXT: Final = 8192
FP4_BITS: Final = 4.5
"""NVFP4, with its scales."""

REPLICATED: Final[frozenset[ModuleClass]] = frozenset({"router", "norms", "vision"})
"""What every device of a group holds whole."""

RAM_KEPT: Final = 0.05
"""The share of the machine's memory that is left to everything else."""


class Stored(Value):
    """A checkpoint's own form: its bytes by class of modules, vision included, and the engines that keep it so."""

    form: str
    """A scheme, or a format of GGUF."""
    weights: dict[ModuleClass, int]
    engines: tuple[str, ...]

    @property
    def precision(self) -> str:
        """What a layout of it is called."""
        return self.form + AS_STORED


class Model(Value):
    """What is to be laid out. ``vision_parameters`` are held in two bytes each."""

    name: str
    config: TextConfig
    vision_parameters: int = 0
    stored: Stored | None = None


class Share(Value):
    """What lies on one device, in bytes; ``room`` is what may be taken of it."""

    device: str
    weights: dict[ModuleClass, int]
    kv: int
    workspace: int
    runtime: int
    room: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.weights.values()) + self.kv + self.workspace + self.runtime

    @property
    def missing(self) -> int:
        """Bytes short; 0 where it fits."""
        return max(0, self.total - self.room)


class Layout(Value):
    """One way. ``context`` is the longest single context it has room for, or the one asked for."""

    model: str
    engine: str
    kind: LayoutKind
    precision: str
    shares: tuple[Share, ...]
    context: int
    support: tuple[str, str]
    """The worst verdict of its devices on the precision, and why."""
    experts_on_device: int = 0
    """Layers whose experts lie with the rest on the accelerator, of an offloaded layout."""

    @property
    def missing(self) -> int:
        """Bytes short on the device that lacks most."""
        return max(share.missing for share in self.shares)

    @property
    def fits(self) -> bool:
        """Whether every device has room."""
        return self.missing == 0 and self.context > 0

    @property
    def verdict(self) -> str:
        """Why it can run or cannot, in a few words: with the device that lacks most, or refuses."""
        if not self.fits:
            worst = max(self.shares, key=lambda share: share.missing)
            return f"lacks {gb(worst.missing)} ({worst.device})"
        return {"native": "fits", "no gain": "fits, no gain"}.get(self.support[0], "refused")

    @property
    def devices(self) -> tuple[str, ...]:
        """Where it lies."""
        return tuple(share.device for share in self.shares)


def class_bytes(model: Model, precision: str) -> dict[ModuleClass, int]:
    """All weights by class of modules, in a scheme or a mix of GGUF, vision included; or as they are stored."""
    if model.stored is not None and precision == model.stored.precision:
        return dict(model.stored.weights)
    if precision in GGUF_MIXES:
        sizes = gguf_class_bytes(model.config, precision)
    elif precision == "nvfp4":
        halves = estimate.class_bytes(model.config, QuantizationConfig.of("bf16"))
        packed = set(LINEAR) - {"attention"}
        sizes = {part: int(size * FP4_BITS / 16) if part in packed else size for part, size in halves.items()}
    else:
        sizes = estimate.class_bytes(model.config, QuantizationConfig.of(precision))
    return {**sizes, "vision": 2 * model.vision_parameters} if model.vision_parameters else sizes


def scheme_of(precision: str) -> str:
    """The number format a device is asked about; those of GGUF are one, for llama.cpp unpacks them all."""
    form = precision.removesuffix(AS_STORED)
    packed = form in GGUF_MIXES or form.isupper()
    return {"nvfp4": "fp4"}.get(form) or ("gguf" if packed else form.partition("-")[0])


def layouts(
    model: Model,
    engine: EngineProfile,
    machine: Hardware,
    precision: str,
    *,
    context: int | None = None,
    batch: int = 1,
) -> Iterator[Layout]:
    """The ways this engine knows, those that do not fit included; none where it drives no device here.

    ``context`` is what each of ``batch`` requests may use; ``None`` takes the longest there is room for.
    """
    room = _Room(model, engine, machine, precision, batch)
    devices = [device for device in machine.devices if device.kind in engine.kinds]
    for kind in engine.layouts:
        if kind == "single" and devices:
            device = max(devices, key=room.of)
            yield room.layout(kind, [device.id], partial(room.alone, device), context, [device])
        elif kind == "tensor":
            for group in _groups(devices, model.config, room.of):
                yield room.layout(kind, _ids(group), partial(room.split, group), context, group)
        elif kind == "layers" and len(devices) > 1 and not any(device.slice for device in devices):
            yield room.layout(kind, _ids(devices), partial(room.by_layers, devices), context, devices)
        elif kind == "offload" and devices and not devices[0].unified and model.config.moe_layers:
            yield room.offloaded(max(devices, key=room.of), context)
        elif kind == "cpu":
            yield room.layout(kind, ["cpu"], partial(room.alone, None), context, [])
        elif kind == "disk" and model.config.moe_layers:
            yield room.layout(kind, ["cpu", "disk"], room.on_disk, context or min(USUAL_CONTEXT, room.longest), [])


class _Room:
    """What goes where, for one model in one precision on one machine."""

    def __init__(self, model: Model, engine: EngineProfile, machine: Hardware, precision: str, batch: int) -> None:
        self.model, self.engine, self.machine, self.precision, self.batch = model, engine, machine, precision, batch
        self.weights = class_bytes(model, precision)
        self.longest = model.config.max_context

    def of(self, device: Device | None) -> int:
        """Bytes that may be taken of a device, or of the machine's memory."""
        if device is None:
            return int(self.machine.free_memory * (1 - RAM_KEPT))
        most = int(device.total_memory * self.engine.utilization)
        return min(int(device.free_memory * (1 - self.engine.margin)), most)

    def layout(
        self,
        kind: LayoutKind,
        names: Sequence[str],
        shares: Callable[[int], list[Share]],
        context: int | None,
        devices: Sequence[Device],
    ) -> Layout:
        """With the longest context that fits, unless one is asked for; with the shortest where none does."""
        tokens = context or _longest(lambda n: all(not share.missing for share in shares(n)), self.longest)
        verdict = self.support(devices)
        return Layout(
            model=self.model.name,
            engine=self.engine.name,
            kind=kind,
            precision=self.precision,
            shares=tuple(shares(tokens or 1)),
            context=tokens,
            support=(verdict.verdict, verdict.reason),
        )

    def support(self, devices: Sequence[Device]) -> Support:
        """The worst verdict of the devices, or the processor's."""
        places: Sequence[Device | Cpu] = devices or [self.machine.cpu]
        verdicts = [support(place, scheme_of(self.precision)) for place in places]
        return max(verdicts, key=lambda verdict: WORST_LAST.index(verdict.verdict))

    def alone(self, device: Device | None, context: int) -> list[Share]:
        """Everything on one device, or in the machine's memory."""
        return [self._share(device, self.weights, self._kv(context), context)]

    def split(self, group: Sequence[Device], context: int) -> list[Share]:
        """Every matrix over all devices; keys and values by heads."""
        count = len(group)
        weights = {part: size if part in REPLICATED else -(-size // count) for part, size in self.weights.items()}
        return [self._share(device, weights, -(-self._kv(context) // count), context) for device in group]

    def by_layers(self, devices: Sequence[Device], context: int) -> list[Share]:
        """Consecutive layers on each, as many as its share of all room; the ends of the network on the ends."""
        config, room = self.model.config, [self.of(device) for device in devices]
        ends = [round(sum(room[: n + 1]) / sum(room) * config.num_layers) for n in range(len(devices))]
        shares, start = [], 0
        for number, (device, end) in enumerate(zip(devices, ends, strict=True)):
            layers = range(start, end)
            weights = self._of_layers(layers)
            ends_of_network: tuple[tuple[ModuleClass, int], ...] = (
                ("embedding", 0),
                ("vision", 0),
                ("head", len(devices) - 1),
            )
            weights |= {
                part: self.weights[part] for part, at in ends_of_network if at == number and part in self.weights
            }
            shares.append(self._share(device, weights, self._kv(context, layers), context))
            start = end
        return shares

    def offloaded(self, device: Device, context: int | None) -> Layout:
        """Experts in the machine's memory, except of as many layers as the device has room for besides the rest."""
        layers = len(self.model.config.moe_layers)
        each = -(-self.weights["experts"] // layers)
        rest = self._all_but_experts()
        tokens = context or min(USUAL_CONTEXT, self.longest)
        bare = self._share(device, rest, self._kv(tokens), tokens)
        kept = min(layers, max(0, (bare.room - bare.total) // each))

        def shares(n: int) -> list[Share]:
            on_device: dict[ModuleClass, int] = {**rest, "experts": each * kept} if kept else rest
            left: dict[ModuleClass, int] = {"experts": each * (layers - kept)}
            return [self._share(device, on_device, self._kv(n), n), self._share(None, left, 0, 0)]

        found = self.layout("offload", [device.id, "cpu"], shares, tokens, [device])
        return found.model_copy(update={"experts_on_device": kept})

    def on_disk(self, context: int) -> list[Share]:
        """Experts are read from the file as they are chosen; all else stays in memory."""
        rest = self._all_but_experts()
        experts: dict[ModuleClass, int] = {"experts": self.weights["experts"]}
        disk = Share(device="disk", weights=experts, kv=0, workspace=0, runtime=0, room=self.machine.disk_free or 0)
        return [self._share(None, rest, self._kv(context), context), disk]

    def _all_but_experts(self) -> dict[ModuleClass, int]:
        kept = dict(self.weights)
        del kept["experts"]
        return kept

    def _share(self, device: Device | None, weights: Mapping[ModuleClass, int], kv: int, context: int) -> Share:
        grows = self.engine.workspace_per_token * context
        return Share(
            device=device.id if device else "cpu",
            weights=dict(weights),
            kv=kv,
            workspace=(self.engine.workspace + grows) if kv else 0,
            runtime=self.engine.runtime if kv else 0,
            room=self.of(device),
        )

    def _of_layers(self, layers: range) -> dict[ModuleClass, int]:
        """The weights of these layers. Layers of one kind are alike."""
        config = self.model.config
        mixtures = len(config.moe_layers.intersection(layers)), len(config.moe_layers)
        dense = len(layers) - mixtures[0], config.num_layers - mixtures[1]
        every = len(layers), config.num_layers
        counts: dict[ModuleClass, tuple[int, int]] = {
            "attention": every,
            "norms": every,
            "experts": mixtures,
            "shared_expert": mixtures,
            "router": mixtures,
            "dense": dense,
        }
        return {
            part: -(-self.weights[part] * here // whole)
            for part, (here, whole) in counts.items()
            if whole and part in self.weights
        }

    def _kv(self, context: int, layers: range | None = None) -> int:
        """Of all layers, or of these."""
        return self.engine.kv_policy.bytes(self.model.config, context, sequences=self.batch, layers=layers)


def _groups(devices: Sequence[Device], config: TextConfig, room: Callable[[Device], int]) -> Iterator[list[Device]]:
    """Two, four or eight equal devices, as far as heads can be divided among them; the emptiest."""
    heads = math.gcd(config.num_heads, config.num_kv_heads)
    for count in (2, 4, 8):
        alike: dict[str, list[Device]] = {}
        for device in devices:
            alike.setdefault(device.name, []).append(device)
        for group in alike.values():
            if heads % count == 0 and len(group) >= count and not group[0].slice:
                yield sorted(group, key=lambda device: -room(device))[:count]


def _ids(devices: Sequence[Device]) -> list[str]:
    return [device.id for device in devices]


def _longest(fits: Callable[[int], bool], limit: int) -> int:
    """The greatest number up to ``limit`` that fits; 0 when none does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
