"""Building layouts of one model in one precision on one machine: how many bytes each device gets. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from llama4sdk._text import gb
from llama4sdk.capacity.contexts import USUAL_CONTEXT, largest_fitting
from llama4sdk.capacity.engine_profiles import EngineProfile, LayoutKind, Work
from llama4sdk.capacity.kernel_support import WORST_LAST, Support, support
from llama4sdk.capacity.layout import DeviceShare, Layout, class_bytes, config_of, scheme_of
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.hardware import Cpu, Device, Hardware
from llama4sdk.quantization import LINEAR, ModuleClass

FP32_BITS: Final = 32

#: Classes that every device of a group holds whole.
REPLICATED: Final[frozenset[ModuleClass]] = frozenset({"router", "norms", "vision"})


class LayoutBuilder:
    """Builds the layouts of one model in one precision.

    ``on_one_device``, ``by_experts``, ``in_stages``, ``by_layers`` and ``on_disk`` give each device's share
    for a context; ``layout`` finds the context, and ``offloaded`` does both.
    """

    def __init__(
        self,
        model: ModelFacts,
        engine: EngineProfile,
        machine: Hardware,
        precision: str,
        *,
        context: int | None,
        batch: int,
        kv_bytes: float,
    ) -> None:
        self.model, self.engine, self.machine, self.precision = model, engine, machine, precision
        self.context, self.batch, self.scheme = context, batch, config_of(precision)
        in_fp32 = self.scheme is not None and self.scheme.dtype.bits == FP32_BITS
        self.kv_bytes = FP32_BITS / 8 if in_fp32 else kv_bytes  # a cache is kept in what is calculated in
        self.weights = class_bytes(model, precision)
        self.max_context = model.config.max_context
        self.usual_context = context or min(USUAL_CONTEXT, self.max_context)

    def usable_memory(self, device: Device | None) -> int:
        """Bytes that the engine may take of a device, or of the machine's memory (``None``)."""
        return self.engine.usable_memory(self.machine, device)

    def layout(
        self,
        kind: LayoutKind,
        shares_for: Callable[[int], list[DeviceShare]],
        devices: Sequence[Device],
        *,
        context: int | None = None,
        tensor: int = 1,
    ) -> Layout:
        """The layout with the longest context that fits, unless one is asked for; with the shortest if none does."""

        def fits(tokens: int) -> bool:
            return all(not share.missing for share in shares_for(tokens))

        tokens = context or self.context or largest_fitting(fits, self.max_context)
        verdict = self.support(devices)
        return Layout(
            model=self.model.name,
            engine=self.engine.name,
            kind=kind,
            precision=self.precision,
            shares=tuple(shares_for(tokens or 1)),
            context=tokens,
            window=self.max_context,
            support=(verdict.verdict, verdict.reason),
            remedy=self._remedy(verdict),
            tensor=tensor,
            batch=self.batch,
            kv_bytes=self.kv_bytes,
        )

    def support(self, devices: Sequence[Device]) -> Support:
        """The worst verdict of the devices, or of the processor where there are none, on any class of modules."""
        processors: Sequence[Device | Cpu] = devices or [self.machine.cpu]
        schemes = [scheme_of(self.precision)]
        if self.scheme is not None:
            schemes = [self.scheme.scheme(module) for module in LINEAR]
        verdicts = [support(processor, scheme, self.engine) for processor in processors for scheme in schemes]
        return max(verdicts, key=lambda verdict: WORST_LAST.index(verdict.verdict))

    def _remedy(self, verdict: Support) -> str:
        if verdict.instead is None:
            return ""
        size, now = (sum(weights.values()) for weights in (class_bytes(self.model, verdict.instead), self.weights))
        return f"{verdict.instead} is native there, in {gb(size)} of weights instead of {gb(now)}"

    def on_one_device(self, device: Device | None, context: int) -> list[DeviceShare]:
        """Everything on one device, or in the machine's memory (``None``)."""
        return [self._share(device, self.weights, self._kv(context), context)]

    def by_experts(self, group: Sequence[Device], tensor: int, context: int) -> list[DeviceShare]:
        """Whole experts on each; the rest over ``tensor`` devices, every such group with its own requests."""
        copies = len(group) // tensor
        weights = _divided(self._all_but_experts(), tensor)
        weights["experts"] = _ceil_div(self.weights["experts"], len(group))
        kv = _ceil_div(self._kv(context, sequences=_ceil_div(self.batch, copies)), tensor)
        return [self._share(device, weights, kv, context, sharing=len(group)) for device in group]

    def in_stages(self, group: Sequence[Device], tensor: int, context: int) -> list[DeviceShare]:
        """Consecutive layers on groups of ``tensor`` devices; matrices, keys and values over all of a group."""
        stages, num_layers = len(group) // tensor, self.model.config.num_layers
        ends = [num_layers * number // stages for number in range(stages + 1)]
        return self._staged(group, ends, tensor, context)

    def by_layers(self, devices: Sequence[Device], context: int) -> list[DeviceShare]:
        """Consecutive layers on each device, in proportion to its usable memory."""
        usable = [0, *accumulate(self.usable_memory(device) for device in devices)]
        ends = [round(memory / usable[-1] * self.model.config.num_layers) for memory in usable]
        return self._staged(devices, ends, 1, context)

    def _staged(self, group: Sequence[Device], ends: Sequence[int], tensor: int, context: int) -> list[DeviceShare]:
        """Shares of stages of ``tensor`` devices; each has the layers from one of ``ends`` to the next."""
        shares = []
        for number, device in enumerate(group):
            stage = number // tensor
            layers = range(ends[stage], ends[stage + 1])
            weights = _divided(self._weights_of(layers, first=stage == 0, last=stage == len(ends) - 2), tensor)
            kv = _ceil_div(self._kv(context, layers), tensor)
            shares.append(self._share(device, weights, kv, context, sharing=tensor))
        return shares

    def offloaded(self, devices: Sequence[Device]) -> Layout:
        """Experts of as many layers as have room on devices, the rest in memory; all else on the first device."""
        resident, host_layers, tokens = self._all_but_experts(), len(self.model.config.moe_layers), self.usual_context
        layer_bytes = _ceil_div(self.weights["experts"], host_layers)
        on_host: dict[ModuleClass, int] = {}
        if self.engine.embedding_on_host:
            on_host["embedding"] = resident.pop("embedding")
        expert_layers: list[tuple[Device, int]] = []
        for device in devices:
            first = not expert_layers
            bare = self._share(device, resident if first else {}, self._kv(tokens) if first else 0, tokens)
            layers = min(host_layers, max(0, (bare.room - bare.total) // layer_bytes))
            if layers or first:
                expert_layers.append((device, layers))
                host_layers -= layers

        def shares_for(tokens: int) -> list[DeviceShare]:
            shares = []
            for number, (device, layers) in enumerate(expert_layers):
                weights: dict[ModuleClass, int] = {} if number else dict(resident)
                weights |= {"experts": layer_bytes * layers} if layers else {}
                shares.append(self._share(device, weights, 0 if number else self._kv(tokens), tokens))
            return [*shares, self._share(None, {**on_host, "experts": layer_bytes * host_layers}, 0, 0)]

        layout = self.layout("offload", shares_for, [device for device, _ in expert_layers], context=tokens)
        return layout.model_copy(update={"experts_on_device": sum(layers for _, layers in expert_layers)})

    def on_disk(self, context: int) -> list[DeviceShare]:
        """Experts are read from the file as they are chosen; all else stays in memory."""
        experts: dict[ModuleClass, int] = {"experts": self.weights["experts"]}
        room = self.machine.disk_free or 0
        disk = DeviceShare(device="disk", weights=experts, kv=0, workspace=0, runtime=0, room=room)
        return [self._share(None, self._all_but_experts(), self._kv(context), context), disk]

    def _all_but_experts(self) -> dict[ModuleClass, int]:
        return {module: size for module, size in self.weights.items() if module != "experts"}

    def _share(
        self, device: Device | None, weights: Mapping[ModuleClass, int], kv: int, context: int, *, sharing: int = 1
    ) -> DeviceShare:
        """A device's share; ``sharing`` devices hold every matrix together."""
        engine, computes = self.engine, kv > 0 or device is not None
        work = Work(
            config=self.model.config,
            precision=self.scheme,
            context=context,
            batch=self.batch,
            vision=self.model.sees,
            memory_kind="cpu" if device is None else "accelerator",
            devices=sharing,
            memory=device.total_memory if device else 0,
        )
        static = engine.static_share(sharing)
        return DeviceShare(
            device=device.id if device else "cpu",
            weights=dict(weights),
            kv=kv,
            workspace=engine.workspace_for(work) if computes else 0,
            runtime=engine.runtime_for(work) if computes else 0,
            room=self.usable_memory(device),
            static_room=int(device.total_memory * static) if device and static else None,
        )

    def _weights_of(self, layers: range, *, first: bool, last: bool) -> dict[ModuleClass, int]:
        """The weights of these layers, and of the network's ends where they are the first or the last."""
        config = self.model.config
        mixtures = len(config.moe_layers.intersection(layers)), len(config.moe_layers)
        dense = len(layers) - mixtures[0], config.num_layers - mixtures[1]
        every = len(layers), config.num_layers
        shares: dict[ModuleClass, tuple[int, int]] = {
            "attention": every,
            "norms": every,
            "dense": dense,
            "experts": mixtures,
            "shared_expert": mixtures,
            "router": mixtures,
            "embedding": (first, 1),
            "vision": (first, 1),
            "head": (last, 1),
        }
        return {
            module: _ceil_div(self.weights[module] * part, total)
            for module, (part, total) in shares.items()
            if total and module in self.weights and (part or module not in ("embedding", "vision", "head"))
        }

    def _kv(self, context: int, layers: range | None = None, *, sequences: int | None = None) -> int:
        """Cache bytes of all layers, or of these; of the whole batch, or of so many of its sequences."""
        return self.engine.kv_policy.bytes(
            self.model.config,
            context,
            value_bytes=self.kv_bytes,
            sequences=self.batch if sequences is None else sequences,
            layers=layers,
        )


def total_at(context: int, layout: Layout, share: DeviceShare, model: ModelFacts, engine: EngineProfile) -> int:
    """Bytes that one device of a layout would take with another context, the cache apart."""
    work = Work(
        config=model.config,
        precision=config_of(layout.precision),
        context=layout.context,
        batch=layout.batch,
        vision=model.sees,
        memory_kind="cpu" if share.device == "cpu" else "accelerator",
    )
    more = engine.workspace_for(work.model_copy(update={"context": context})) - engine.workspace_for(work)
    return share.total - share.kv + more


def _divided(weights: Mapping[ModuleClass, int], count: int) -> dict[ModuleClass, int]:
    return {module: size if module in REPLICATED else _ceil_div(size, count) for module, size in weights.items()}


def _ceil_div(size: int, count: int) -> int:
    return -(-size // count)
