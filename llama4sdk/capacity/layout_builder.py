"""What goes where, for one model in one precision on one machine. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from llama4sdk._text import gb
from llama4sdk.capacity.contexts import USUAL_CONTEXT, largest_fitting
from llama4sdk.capacity.engine_profiles import EngineProfile, LayoutKind, Work
from llama4sdk.capacity.kernel_support import WORST_LAST, Support, support, support_by_class
from llama4sdk.capacity.layout import DeviceShare, Layout, class_bytes, config_of, scheme_of
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.hardware import Cpu, Device, Hardware
from llama4sdk.quantization import LINEAR, ModuleClass

__all__ = ["LayoutBuilder", "total_at"]

FULL_BITS: Final = 32

REPLICATED: Final[frozenset[ModuleClass]] = frozenset({"router", "norms", "vision"})
"""What every device of a group holds whole."""


class LayoutBuilder:
    """Builds shares and layouts; each method but ``layout`` and ``offloaded`` is one way to share out a context."""

    def __init__(
        self,
        model: ModelFacts,
        engine: EngineProfile,
        machine: Hardware,
        precision: str,
        *,
        batch: int,
        kv_bytes: float,
    ) -> None:
        self.model, self.engine, self.machine, self.precision = model, engine, machine, precision
        self.batch, self.scheme = batch, config_of(precision)
        full = self.scheme is not None and self.scheme.dtype.bits == FULL_BITS
        self.kv_bytes = FULL_BITS / 8 if full else kv_bytes  # what is calculated in fp32 is kept so
        self.weights = class_bytes(model, precision)
        self.longest = model.config.max_context

    def of(self, device: Device | None) -> int:
        """Bytes that may be taken of a device, or of the machine's memory."""
        return self.engine.room(self.machine, device)

    def layout(
        self,
        kind: LayoutKind,
        shares: Callable[[int], list[DeviceShare]],
        context: int | None,
        devices: Sequence[Device],
        *,
        tensor: int = 1,
    ) -> Layout:
        """With the longest context that fits, unless one is asked for; with the shortest where none does."""
        tokens = context or largest_fitting(lambda n: all(not share.missing for share in shares(n)), self.longest)
        verdict = self.support(devices)
        return Layout(
            model=self.model.name,
            engine=self.engine.name,
            kind=kind,
            precision=self.precision,
            shares=tuple(shares(tokens or 1)),
            context=tokens,
            window=self.longest,
            support=(verdict.verdict, verdict.reason),
            remedy=self._remedy(verdict),
            tensor=tensor,
            batch=self.batch,
            kv_bytes=self.kv_bytes,
        )

    def support(self, devices: Sequence[Device]) -> Support:
        """The worst verdict of the devices, or the processor's, on any class of modules."""
        places: Sequence[Device | Cpu] = devices or [self.machine.cpu]
        config = self.scheme
        verdicts = [
            found
            for place in places
            for found in (
                [support_by_class(place, config, self.engine)[part] for part in LINEAR]
                if config
                else [support(place, scheme_of(self.precision), self.engine)]
            )
        ]
        return max(verdicts, key=lambda verdict: WORST_LAST.index(verdict.verdict))

    def _remedy(self, verdict: Support) -> str:
        if verdict.instead is None:
            return ""
        size = sum(class_bytes(self.model, verdict.instead).values())
        return (
            f"{verdict.instead} is native there, in {gb(size)} of weights instead of {gb(sum(self.weights.values()))}"
        )

    def alone(self, device: Device | None, context: int) -> list[DeviceShare]:
        """Everything on one device, or in the machine's memory."""
        return [self._share(device, self.weights, self._kv(context), context)]

    def split(self, group: Sequence[Device], context: int) -> list[DeviceShare]:
        """Every matrix over all devices; keys and values by heads."""
        count = len(group)
        weights = self._divided(self.weights, count)
        kv = -(-self._kv(context) // count)
        return [self._share(device, weights, kv, context, together=count) for device in group]

    def by_experts(self, group: Sequence[Device], tensor: int, context: int) -> list[DeviceShare]:
        """Whole experts on each; the rest over ``tensor`` devices, every such group with its own requests."""
        copies = len(group) // tensor
        weights = self._divided(self._all_but_experts(), tensor)
        weights["experts"] = -(-self.weights["experts"] // len(group))
        kv = -(-self._kv(context, sequences=-(-self.batch // copies)) // tensor)
        return [self._share(device, weights, kv, context, together=len(group)) for device in group]

    def in_stages(self, group: Sequence[Device], tensor: int, context: int) -> list[DeviceShare]:
        """Consecutive layers on groups of ``tensor`` devices, every matrix over all of its group."""
        stages, layers = len(group) // tensor, self.model.config.num_layers
        ends = [layers * number // stages for number in range(stages + 1)]
        shares = []
        for number, device in enumerate(group):
            stage = number // tensor
            here = range(ends[stage], ends[stage + 1])
            weights = self._divided(
                self._of_layers(here) | self._ends(first=stage == 0, last=stage == stages - 1), tensor
            )
            kv = -(-self._kv(context, here) // tensor)
            shares.append(self._share(device, weights, kv, context, together=tensor))
        return shares

    def by_layers(self, devices: Sequence[Device], context: int) -> list[DeviceShare]:
        """Consecutive layers on each, as many as its share of all room; the ends of the network on the ends."""
        config, room = self.model.config, [self.of(device) for device in devices]
        ends = [round(sum(room[: n + 1]) / sum(room) * config.num_layers) for n in range(len(devices))]
        shares, start = [], 0
        for number, (device, end) in enumerate(zip(devices, ends, strict=True)):
            layers = range(start, end)
            weights = self._of_layers(layers) | self._ends(first=number == 0, last=number == len(devices) - 1)
            shares.append(self._share(device, weights, self._kv(context, layers), context))
            start = end
        return shares

    def offloaded(self, devices: Sequence[Device], context: int | None) -> Layout:
        """Experts in the machine's memory, except of as many layers as devices have room for; the rest on the first."""
        each = -(-self.weights["experts"] // len(self.model.config.moe_layers))
        rest, left = self._all_but_experts(), len(self.model.config.moe_layers)
        on_host: dict[ModuleClass, int] = {}
        if self.engine.embedding_on_host:
            on_host["embedding"] = rest.pop("embedding")
        tokens = context or min(USUAL_CONTEXT, self.longest)
        kept: list[tuple[Device, int]] = []
        for device in devices:
            bare = self._share(device, {} if kept else rest, 0 if kept else self._kv(tokens), tokens)
            layers = min(left, max(0, (bare.room - bare.total) // each))
            if layers or not kept:
                kept.append((device, layers))
                left -= layers

        def shares(n: int) -> list[DeviceShare]:
            found = []
            for number, (device, layers) in enumerate(kept):
                weights: dict[ModuleClass, int] = {} if number else dict(rest)
                weights |= {"experts": each * layers} if layers else {}
                found.append(self._share(device, weights, 0 if number else self._kv(n), n))
            return [*found, self._share(None, {**on_host, "experts": each * left}, 0, 0)]

        found = self.layout("offload", shares, tokens, [device for device, _ in kept])
        return found.model_copy(update={"experts_on_device": sum(layers for _, layers in kept)})

    def on_disk(self, context: int) -> list[DeviceShare]:
        """Experts are read from the file as they are chosen; all else stays in memory."""
        experts: dict[ModuleClass, int] = {"experts": self.weights["experts"]}
        disk = DeviceShare(
            device="disk", weights=experts, kv=0, workspace=0, runtime=0, room=self.machine.disk_free or 0
        )
        return [self._share(None, self._all_but_experts(), self._kv(context), context), disk]

    def _all_but_experts(self) -> dict[ModuleClass, int]:
        return {part: size for part, size in self.weights.items() if part != "experts"}

    def _ends(self, *, first: bool, last: bool) -> dict[ModuleClass, int]:
        """What comes before the first layer and after the last."""
        wanted = {"embedding": first, "vision": first, "head": last}
        return {part: size for part, size in self.weights.items() if wanted.get(part)}

    @staticmethod
    def _divided(weights: Mapping[ModuleClass, int], count: int) -> dict[ModuleClass, int]:
        return {part: size if part in REPLICATED else -(-size // count) for part, size in weights.items()}

    def _share(
        self, device: Device | None, weights: Mapping[ModuleClass, int], kv: int, context: int, *, together: int = 1
    ) -> DeviceShare:
        engine, working = self.engine, kv > 0 or device is not None
        work = Work(
            config=self.model.config,
            precision=self.scheme,
            context=context,
            batch=self.batch,
            vision=self.model.vision_parameters > 0,
            on_host=device is None,
            devices=together,
            memory=device.total_memory if device else 0,
        )
        static = engine.static_share(together)
        return DeviceShare(
            device=device.id if device else "cpu",
            weights=dict(weights),
            kv=kv,
            workspace=engine.workspace_for(work) if working else 0,
            runtime=engine.runtime_for(work) if working else 0,
            room=self.of(device),
            static_room=int(device.total_memory * static) if device and static else None,
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

    def _kv(self, context: int, layers: range | None = None, *, sequences: int | None = None) -> int:
        """Of all layers, or of these; of the whole batch, or of so many of it."""
        return self.engine.kv_policy.bytes(
            self.model.config,
            context,
            value_bytes=self.kv_bytes,
            sequences=self.batch if sequences is None else sequences,
            layers=layers,
        )


def total_at(context: int, layout: Layout, share: DeviceShare, model: ModelFacts, engine: EngineProfile) -> int:
    """What one device of a layout would take with another context, the cache apart."""
    work = Work(
        config=model.config,
        precision=config_of(layout.precision),
        context=layout.context,
        batch=layout.batch,
        vision=model.vision_parameters > 0,
        on_host=share.device == "cpu",
    )
    more = engine.workspace_for(work.model_copy(update={"context": context})) - engine.workspace_for(work)
    return share.total - share.kv + more
