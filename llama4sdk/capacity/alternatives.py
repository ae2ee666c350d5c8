"""Engines that are not installed, where they would do better than a plan on the same machine. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from llama4sdk.capacity.candidates import Candidate, candidates, rank, timed
from llama4sdk.capacity.engine_profiles import ENGINES, PROFILES, EngineProfile, LayoutKind
from llama4sdk.capacity.layout import DeviceShare, Layout, weight_parts
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.ranking import RankKey, rank_key
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan, Preference
from llama4sdk.quantization import ModuleClass, QuantizationConfig


def alternatives(
    plan: Plan | None,
    models: Sequence[ModelFacts],
    machine: Hardware,
    *,
    installed: Collection[str],
    prefer: Preference = "balanced",
    context: int | None = None,
    batch: int = 1,
) -> list[Candidate]:
    """The best candidate of each engine without an installed backend that is preferred to the plan.

    ``models`` are in the order they are wanted in; ``plan`` is ``None`` where there is none; ``batch`` requests are to
    use the context at once. Nothing here is chosen.
    """
    limit = _plan_rank(plan, models, machine, prefer)
    better: list[tuple[RankKey, Candidate]] = []
    absent = [engine for engine in ENGINES if engine.backend not in installed]
    for engine in absent:
        for number, model in enumerate(models):
            options = candidates([model], machine, engines=[engine], context=context, batch=batch)
            usable = rank([candidate for candidate in options if _context_suffices(candidate, plan)], prefer)
            key = (number, *rank_key(usable[0].option, prefer)) if usable else ()
            if usable and (limit is None or key < limit):
                better.append((key, usable[0]))
                break
    return [candidate for _, candidate in sorted(better, key=lambda pair: pair[0])]


def plan_engine(plan: Plan) -> EngineProfile | None:
    """The profile of the engine that a plan is for; ``None`` where nothing is known of it."""
    return next((engine for engine in PROFILES if engine.backend == plan.backend), None)


def as_candidate(plan: Plan, model: ModelFacts, machine: Hardware) -> Candidate | None:
    """The plan as a layout, every byte as its backend breaks it down; ``None`` where that says too little."""
    engine = plan_engine(plan)
    if engine is None or plan.quantization is None or not plan.breakdown:
        return None
    config = QuantizationConfig.of(plan.quantization)
    precision = str(config.experts if model.config.moe_layers else config.dense)
    kind = _layout_kind(plan, engine, model, machine, precision)
    if kind is None:
        return None
    devices = {device.id: device for device in machine.devices}
    layout = Layout(
        model=plan.model,
        engine=engine.name,
        kind=kind,
        precision=precision,
        shares=tuple(
            DeviceShare(
                device=device,
                weights=weight_parts(parts),
                kv=parts.get("kv_cache", 0),
                workspace=parts.get("workspace", 0),
                runtime=parts.get("runtime", 0),
                room=engine.usable_memory(machine, devices.get(device)),
            )
            for device, parts in plan.breakdown.items()
        ),
        context=plan.context_length,
        window=model.config.max_context,
        support=("native", "the plan is made for it"),
        batch=plan.batch or 1,
        kv_bytes=config.dtype.bits / 8,
    )
    return timed(layout, model, engine, machine, weights=plan_weight_bytes(plan))


def plan_weight_bytes(plan: Plan) -> dict[ModuleClass, int]:
    """A plan's weights by class of modules, on all its devices, as its backend breaks them down."""
    sizes: Counter[ModuleClass] = Counter()
    for parts in plan.breakdown.values():
        sizes.update(weight_parts(parts))
    return dict(sizes)


def _plan_rank(
    plan: Plan | None, models: Sequence[ModelFacts], machine: Hardware, prefer: Preference
) -> RankKey | None:
    """The rank that an alternative must be better than. ``None`` is beaten by anything, an empty one by nothing."""
    names = [model.name for model in models]
    if plan is None or plan.placement.kind == "remote" or plan.model not in names:
        return None
    number = names.index(plan.model)
    candidate = as_candidate(plan, models[number], machine)
    return () if candidate is None else (number, *rank_key(candidate.option, prefer))


def _context_suffices(candidate: Candidate, plan: Plan | None) -> bool:
    """Whether the context is no shorter than the plan's; a shorter one is no alternative."""
    return plan is None or plan.model != candidate.layout.model or candidate.layout.context >= plan.context_length


def _layout_kind(
    plan: Plan, engine: EngineProfile, model: ModelFacts, machine: Hardware, precision: str
) -> LayoutKind | None:
    """The kind of layout that uses the plan's devices; ``None`` where the engine knows none."""
    devices = plan.placement.devices
    if len(devices) == 1:
        return "cpu" if devices == ("cpu",) else "single"
    possible = layouts(model, engine, machine, precision, context=plan.context_length)
    return next((layout.kind for layout in possible if layout.devices == devices), None)
