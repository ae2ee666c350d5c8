"""A plan beside what engines that are not installed would do on the same machine. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import get_args

from llama4sdk.capacity.candidates import Candidate, candidates, rank, timed
from llama4sdk.capacity.engine_profiles import ENGINES, PROFILES, EngineProfile, LayoutKind
from llama4sdk.capacity.layout import DeviceShare, Layout
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.ranking import RankKey, rank_key
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan, Preference
from llama4sdk.quantization import ModuleClass, QuantizationConfig

__all__ = ["alternatives", "as_candidate", "held_bytes", "profile_of"]


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
    """The best that each engine without an installed backend would do, where the policy prefers it to the plan.

    ``models`` are in the order they are wanted in; ``plan`` is ``None`` where there is none; ``batch`` requests are to
    use the context at once. Nothing here is chosen.
    """
    absent = [engine for engine in ENGINES if engine.backend not in installed]
    order = [model.name for model in models]
    bar = _bar(plan, models, machine, prefer)
    better: list[tuple[RankKey, Candidate]] = []
    for engine in absent:
        found = list(candidates(models, machine, engines=[engine], context=context, batch=batch))
        for number, name in enumerate(order):
            usable = rank([c for c in found if c.layout.model == name and _reaches(c, plan)], prefer)
            key = (number, *rank_key(usable[0].option, prefer)) if usable else ()
            if usable and (bar is None or key < bar):
                better.append((key, usable[0]))
                break
    return [candidate for _, candidate in sorted(better, key=lambda pair: pair[0])]


def profile_of(plan: Plan) -> EngineProfile | None:
    """What is known of the engine that a plan is for."""
    return next((engine for engine in PROFILES if engine.backend == plan.backend), None)


def as_candidate(plan: Plan, model: ModelFacts, machine: Hardware) -> Candidate | None:
    """The plan as a layout, every byte as its backend breaks it down; ``None`` where that says too little."""
    engine = profile_of(plan)
    if engine is None or plan.quantization is None or not plan.breakdown:
        return None
    chosen = QuantizationConfig.of(plan.quantization)
    precision = str(chosen.experts if model.config.moe_layers else chosen.dense)
    kind = _kind(plan, engine, model, machine, precision)
    if kind is None:
        return None
    layout = Layout(
        model=plan.model,
        engine=engine.name,
        kind=kind,
        precision=precision,
        shares=tuple(
            DeviceShare(
                device=device,
                weights=_weights(parts),
                kv=parts.get("kv_cache", 0),
                workspace=parts.get("workspace", 0),
                runtime=parts.get("runtime", 0),
                room=engine.usable_memory(machine, next((d for d in machine.devices if d.id == device), None)),
            )
            for device, parts in plan.breakdown.items()
        ),
        context=plan.context_length,
        window=model.config.max_context,
        support=("native", "the plan is made for it"),
        batch=plan.batch or 1,
        kv_bytes=chosen.dtype.bits / 8,
    )
    return timed(layout, model, engine, machine, weights=held_bytes(plan))


def held_bytes(plan: Plan) -> dict[ModuleClass, int]:
    """The weights of a plan by class of modules, on all its devices, as its backend breaks them down."""
    held: dict[ModuleClass, int] = {}
    for parts in plan.breakdown.values():
        for part, size in _weights(parts).items():
            held[part] = held.get(part, 0) + size
    return held


def _weights(parts: Mapping[str, int]) -> dict[ModuleClass, int]:
    return {part: parts[part] for part in get_args(ModuleClass) if part in parts}


def _bar(plan: Plan | None, models: Sequence[ModelFacts], machine: Hardware, prefer: Preference) -> RankKey | None:
    """What an alternative must be better than. ``None`` is beaten by anything, an empty one by nothing."""
    names = [model.name for model in models]
    if plan is None or plan.placement.kind == "remote" or plan.model not in names:
        return None
    number = names.index(plan.model)
    own = as_candidate(plan, models[number], machine)
    return () if own is None else (number, *rank_key(own.option, prefer))


def _reaches(candidate: Candidate, plan: Plan | None) -> bool:
    """A shorter context than the plan's is no alternative."""
    return plan is None or plan.model != candidate.layout.model or candidate.layout.context >= plan.context_length


def _kind(plan: Plan, engine: EngineProfile, model: ModelFacts, machine: Hardware, precision: str) -> LayoutKind | None:
    """How the plan lies."""
    devices = plan.placement.devices
    if len(devices) == 1:
        return "cpu" if devices == ("cpu",) else "single"
    found = layouts(model, engine, machine, precision, context=plan.context_length)
    return next((layout.kind for layout in found if layout.devices == devices), None)
