"""A plan beside what engines that are not installed would do on the same machine. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from llama4sdk.hardware import Hardware
from llama4sdk.planning import estimate
from llama4sdk.planning.candidates import PREFERENCES, Candidate, candidates, rank, timed
from llama4sdk.planning.engines import ENGINES, EngineProfile, LayoutKind
from llama4sdk.planning.layouts import Layout, Model, Share, layouts
from llama4sdk.planning.plan import Plan
from llama4sdk.planning.policy import Preference
from llama4sdk.planning.quantization import ModuleClass, QuantizationConfig

__all__ = ["alternatives", "as_candidate", "held_bytes", "profile_of"]


def alternatives(
    plan: Plan | None,
    models: Sequence[Model],
    machine: Hardware,
    *,
    installed: Collection[str],
    prefer: Preference = "balanced",
    context: int | None = None,
) -> list[Candidate]:
    """The best that each engine without an installed backend would do, where the policy prefers it to the plan.

    ``models`` are in the order they are wanted in; ``plan`` is ``None`` where there is none. Nothing here is chosen.
    """
    absent = [engine for engine in ENGINES if engine.backend not in installed]
    order = [model.name for model in models]
    bar = _bar(plan, models, machine, prefer)
    better: list[tuple[tuple[float, ...], Candidate]] = []
    for engine in absent:
        found = list(candidates(models, machine, engines=[engine], context=context))
        for number, name in enumerate(order):
            usable = rank([c for c in found if c.layout.model == name and _reaches(c, plan)], prefer)
            key = (number, *PREFERENCES[prefer](usable[0])) if usable else ()
            if usable and (bar is None or key < bar):
                better.append((key, usable[0]))
                break
    return [candidate for _, candidate in sorted(better, key=lambda pair: pair[0])]


def profile_of(plan: Plan) -> EngineProfile | None:
    """What is known of the engine that a plan is for."""
    return next((engine for engine in ENGINES if engine.backend == plan.backend), None)


def as_candidate(plan: Plan, model: Model, machine: Hardware) -> Candidate | None:
    """The plan as a layout with every byte by its class; ``None`` where its backend says too little.

    Weights and cache are counted; what the plan needs beyond them is work space.
    """
    engine = profile_of(plan)
    if engine is None or plan.quantization is None or not plan.memory:
        return None
    chosen = QuantizationConfig.of(plan.quantization)
    precision = str(chosen.experts if model.config.moe_layers else chosen.dense)
    found = _kind(plan, engine, model, machine, precision)
    if found is None:
        return None
    kind, parts = found
    width = chosen.dtype.bits // 8
    kv = engine.kv_policy.bytes(model.config, plan.context_length, value_bytes=width)
    held = held_bytes(plan, model)
    counts = [sum(part.values()) for part in parts.values()]
    shares = []
    for number, (device, part) in enumerate(parts.items()):
        weights = held if len(parts) == 1 else part
        cache = (
            kv if len(parts) == 1 else kv * (number == 0) if kind == "offload" else kv * counts[number] // sum(counts)
        )
        rest = plan.memory.get(device, 0) - sum(weights.values()) - cache
        runtime = max(0, min(engine.runtime, rest))
        room = _free(machine, device)
        shares.append(
            Share(
                device=device, weights=weights, kv=cache, workspace=max(0, rest - runtime), runtime=runtime, room=room
            )
        )
    layout = Layout(
        model=plan.model,
        engine=engine.name,
        kind=kind,
        precision=precision,
        shares=tuple(shares),
        context=plan.context_length,
        window=model.config.max_context,
        support=("native", "the plan is made for it"),
        kv_bytes=width,
    )
    return timed(layout, model, engine, machine, weights=held)


def held_bytes(plan: Plan, model: Model) -> dict[ModuleClass, int]:
    """The weights of a plan by class of modules.

    A checkpoint that keeps its own codes weighs what its backend says; its classes are then taken in proportion.
    """
    chosen = QuantizationConfig.of(plan.quantization or "bf16")
    sizes = estimate.class_bytes(model.config, chosen)
    if model.vision_parameters:
        sizes["vision"] = model.vision_parameters * chosen.dtype.bits // 8
    whole = sum(sizes.values())
    if plan.weight_bytes in (None, whole):
        return sizes
    scaled = {part: size * plan.weight_bytes // whole for part, size in sizes.items()}
    largest = max(scaled, key=lambda part: scaled[part])
    scaled[largest] += plan.weight_bytes - sum(scaled.values())
    return scaled


def _bar(plan: Plan | None, models: Sequence[Model], machine: Hardware, prefer: Preference) -> tuple[float, ...] | None:
    """What an alternative must be better than. ``None`` is beaten by anything, an empty one by nothing."""
    names = [model.name for model in models]
    if plan is None or plan.placement.kind == "remote" or plan.model not in names:
        return None
    number = names.index(plan.model)
    own = as_candidate(plan, models[number], machine)
    return () if own is None else (number, *PREFERENCES[prefer](own))


def _reaches(candidate: Candidate, plan: Plan | None) -> bool:
    """A shorter context than the plan's is no alternative."""
    return plan is None or plan.model != candidate.layout.model or candidate.layout.context >= plan.context_length


def _kind(
    plan: Plan, engine: EngineProfile, model: Model, machine: Hardware, precision: str
) -> tuple[LayoutKind, Mapping[str, dict[ModuleClass, int]]] | None:
    """How the plan lies, and the weights on each device as that layout has them."""
    devices = plan.placement.devices
    if len(devices) == 1:
        return ("cpu" if devices == ("cpu",) else "single"), {devices[0]: {}}
    for layout in layouts(model, engine, machine, precision, context=plan.context_length):
        if layout.devices == devices:
            return layout.kind, {share.device: share.weights for share in layout.shares}
    return None


def _free(machine: Hardware, device: str) -> int:
    return next((machine.free_on(d) for d in machine.devices if d.id == device), machine.free_memory)
