"""A plan in numbers: its memory part by part, its cache in each kind of layer, and the bounds of its speed. Pure.

Every figure says how much it can be trusted: ``exact`` follows from the network or a datasheet, ``measured`` was read
on a machine, ``modelled`` is computed from what was measured, ``guessed`` is taken to be like something else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, Literal, TypeAlias

from llama4sdk._values import Value
from llama4sdk.capacity.alternatives import as_candidate, plan_engine, plan_weight_bytes
from llama4sdk.capacity.candidates import SHORT_PROMPT, Candidate
from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.kv_policies import KV_POLICIES
from llama4sdk.capacity.layout import DeviceShare
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.roofline import Interval, NetworkPart, step_bytes
from llama4sdk.capacity.sites import network_parts, shared_memory_bandwidth
from llama4sdk.catalog.accelerators import accelerator_of
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.sizes import kv_cache_bytes
from llama4sdk.plan import Plan
from llama4sdk.quantization import ModuleClass, QuantizationConfig

Label: TypeAlias = Literal["exact", "measured", "modelled", "guessed"]
Unit: TypeAlias = Literal["bytes", "bytes/s", "tokens/s", "share"]

NOT_MODELLED: Final = (
    "speculative decoding, prefix caches, an uneven choice of experts, the network between machines, other programs "
    "that take memory later"
)

#: The context that caches are compared at besides the plan's own: there chunks make a difference.
LONG_CONTEXT: Final = 131_072

MODULE_NAMES: Final[Mapping[ModuleClass, str]] = {
    "experts": "routed experts",
    "shared_expert": "shared experts",
    "dense": "dense layers",
    "head": "output head",
}


class Figure(Value):
    """One number with its label of trust."""

    what: str
    value: int | float | Interval
    unit: Unit
    label: Label
    note: str = ""


class Section(Value):
    """Figures that belong together."""

    title: str
    figures: tuple[Figure, ...]


class Explanation(Value):
    """A plan's numbers. ``sections`` is empty where its backend does not say what it holds."""

    sections: tuple[Section, ...]
    not_modelled: str = NOT_MODELLED


def explain(plan: Plan, model: ModelFacts | None, machine: Hardware, *, imagined: bool = False) -> Explanation:
    """The numbers behind a plan for ``model``. ``imagined`` says that ``machine`` was described, not probed."""
    engine = plan_engine(plan)
    candidate = None if model is None else as_candidate(plan, model, machine)
    if model is None or engine is None or candidate is None:
        return Explanation(sections=())
    sections = [_memory(share, plan, machine, imagined=imagined) for share in candidate.layout.shares]
    sections.append(_cache(plan, model, engine))
    sections += _other_caches(plan, model, engine)
    sections.append(_speed(plan, model, engine, candidate, machine))
    return Explanation(sections=tuple(sections))


def _bytes(what: str, value: int, label: Label, note: str = "") -> Figure:
    return Figure(what=what, value=value, unit="bytes", label=label, note=note)


def _memory(share: DeviceShare, plan: Plan, machine: Hardware, *, imagined: bool) -> Section:
    weights = sorted(share.weights.items(), key=lambda item: -item[1])
    sizes = {device.id: device.total_memory for device in machine.devices}
    total, free = sizes.get(share.device, machine.total_memory), machine.free(share.device)
    free_note = f"of {total / 1e9:.1f} GB{', if nothing else runs there' if imagined else ''}"
    spare = free - share.total
    workspace_note = "activations of a block of the prompt, and what is unpacked"
    return Section(
        title=f"Memory on {share.device}",
        figures=(
            *(_bytes(MODULE_NAMES.get(module, module), size, "exact") for module, size in weights if size),
            _bytes("all weights", sum(share.weights.values()), "exact", f"{plan.quantization}"),
            _bytes("keys and values", share.kv, "exact", f"of {_cached_tokens(plan)}"),
            _bytes("work space", share.workspace, "modelled", workspace_note),
            _bytes("runtime", share.runtime, "modelled", "the engine's libraries, or the device's context"),
            _bytes("in all", share.total, "modelled"),
            _bytes("free", free, "guessed" if imagined else "measured", free_note),
            _bytes("left", max(0, spare), "modelled", "" if spare >= 0 else "more is needed than is free"),
        ),
    )


def _cached_tokens(plan: Plan) -> str:
    """``8,192 tokens``, or ``4 x`` as many for four conversations."""
    return f"{f'{plan.batch} x ' if (plan.batch or 1) > 1 else ''}{plan.context_length:,} tokens"


def _cache(plan: Plan, model: ModelFacts, engine: EngineProfile) -> Section:
    config, value_bytes = model.config, _value_bytes(plan)
    per_layer = 2 * config.num_kv_heads * config.head_dim * value_bytes
    local = len(config.chunked_layers)
    everywhere, policy = config.num_layers - local, engine.kv_policy
    figures = [_bytes(f"a token in {everywhere} global layers", per_layer * everywhere, "exact")]
    if local:
        note = "they keep everything"
        if policy.chunk_aware:
            note = f"for {config.chunk_size:,} tokens at most: these layers keep one chunk"
        figures.append(_bytes(f"a token in {local} local layers", per_layer * local, "exact", note))
    size = policy.bytes(config, plan.context_length, value_bytes=value_bytes, sequences=plan.batch or 1)
    figures.append(_bytes(_cached_tokens(plan), size, "exact", f"{policy.engine}, {policy.versions}"))
    return Section(title="Keys and values", figures=tuple(figures))


def _other_caches(plan: Plan, model: ModelFacts, engine: EngineProfile) -> Iterator[Section]:
    """The cache of the same context in each engine; nothing for a network without chunks."""
    config, value_bytes = model.config, _value_bytes(plan)
    if not config.chunked_layers:
        return
    longer = min(max(plan.context_length, LONG_CONTEXT), config.max_context)
    for context in dict.fromkeys((plan.context_length, longer)):
        figures = tuple(
            _bytes(
                f"{policy.engine}, {policy.versions}",
                policy.bytes(config, context, value_bytes=value_bytes),
                "exact",
                f"{'one chunk' if policy.chunk_aware else 'everything'} in local layers; switch: {policy.switch}"
                + (" (this plan)" if policy.name == engine.kv else ""),
            )
            for policy in KV_POLICIES
        )
        yield Section(title=f"Keys and values of {context:,} tokens, by engine", figures=figures)


def _speed(plan: Plan, model: ModelFacts, engine: EngineProfile, candidate: Candidate, machine: Hardware) -> Section:
    parts = network_parts(candidate.layout, engine, machine)
    if parts is None or candidate.decode is None or candidate.prefill is None:
        unknown = Figure(what="bandwidth", value=0, unit="bytes/s", label="guessed", note="nothing is known of it")
        return Section(title="Speed", figures=(unknown,))
    batch = plan.batch or 1
    answers = "one answer" if batch == 1 else f"{batch} answers together, in steps that they share,"
    note = f"{answers} behind {SHORT_PROMPT} tokens"
    figures = [figure for part in parts for figure in _part(part, plan, model, machine, alone=len(parts) == 1)]
    figures.append(Figure(what="answering", value=candidate.decode, unit="tokens/s", label=candidate.label, note=note))
    note = f"a prompt of {SHORT_PROMPT} tokens"
    figures.append(Figure(what="reading", value=candidate.prefill, unit="tokens/s", label=candidate.label, note=note))
    return Section(title="Speed", figures=tuple(figures))


def _part(part: NetworkPart, plan: Plan, model: ModelFacts, machine: Hardware, *, alone: bool) -> Iterator[Figure]:
    config, calibration, site = model.config, part.calibration, part.site
    where = "" if alone else f", {site.name}"
    batch = plan.batch or 1
    read_bytes = step_bytes(config, plan_weight_bytes(plan), part.modules, tokens=batch, experts=part.experts)
    chosen = f"{config.experts_per_token} of {config.num_experts} routed experts in each mixture"
    step = "a token" if batch == 1 else f"a token of {batch} answers"
    yield _bytes(f"weights read for {step}{where}", int(read_bytes), "exact", chosen if config.num_experts else "")
    if "attention" in part.modules:
        context = min(plan.context_length, SHORT_PROMPT)
        cache = kv_cache_bytes(config, context, value_bytes=_value_bytes(plan), chunk_aware=True)
        yield _bytes(f"cache read for {step}{where}", cache * batch, "exact", f"behind {SHORT_PROMPT} tokens")
    label, source = _bandwidth(part, machine)
    low, high = calibration.bandwidth
    note, reached_note = f"{site.name}: {source}", f"{calibration.engine} {calibration.version}: {calibration.source}"
    if label == "guessed":  # a share of an unknown bandwidth says nothing
        what, note = f"bandwidth reached{where}", f"{note}; {reached_note}"
        value = Interval(low=low * site.bandwidth, high=high * site.bandwidth)
        yield Figure(what=what, value=value, unit="bytes/s", label=label, note=note)
        return
    yield Figure(what=f"bandwidth{where}", value=site.bandwidth, unit="bytes/s", label=label, note=note)
    what, value = f"of which is reached{where}", Interval(low=low, high=high)
    yield Figure(what=what, value=value, unit="share", label=calibration.label, note=reached_note)


def _bandwidth(part: NetworkPart, machine: Hardware) -> tuple[Label, str]:
    if part.site.name == "disk":
        return "guessed", f"usual of {machine.disk_kind}"
    if part.site.name != machine.cpu.name:
        if any(accelerator_of(device) is None for device in machine.devices):
            return "guessed", "from the clock and the width of its memory, as its driver tells them"
        return "exact", "as specified, of all its devices together"
    if machine.memory_bandwidth is not None:
        return "measured", "by all cores together"
    if shared_memory_bandwidth(machine) is not None:
        return "exact", "as specified, of the memory that processor and accelerator share"
    return "guessed", "nobody has measured this machine's memory"


def _value_bytes(plan: Plan) -> int:
    """Bytes of a value of the cache."""
    return QuantizationConfig.of(plan.quantization or "bf16").dtype.bits // 8
