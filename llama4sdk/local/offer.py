"""Offers of engines that run a model in this process: on which device, in which precision, for how long a context.

An engine subclasses ``LocalModel``, which counts a model's memory there; ``fitting_setups`` finds the ways to run it
that have room, in the order of ``capacity.ranking``; the other functions write the answer. Pure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from llama4sdk._text import gb
from llama4sdk.backend import Capabilities, Need, Offer, Unavailable
from llama4sdk.capacity.candidates import SHORT_PROMPT
from llama4sdk.capacity.contexts import (
    MIN_CONTEXT,
    USUAL_CONTEXT,
    describe_context,
    fitting_context,
    largest_fitting,
)
from llama4sdk.capacity.device_room import DeviceRoom
from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.layout import weight_parts
from llama4sdk.capacity.model_facts import ModelFacts, Precision
from llama4sdk.capacity.ranking import Option, best_first
from llama4sdk.capacity.roofline import decode_speed
from llama4sdk.capacity.sites import whole_network
from llama4sdk.capacity.torch_memory import MemoryKind
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Placement, Preference
from llama4sdk.quantization import ModuleClass, QuantizationConfig


class LocalModel(ABC):
    """A model in one engine of this process. ``capabilities`` are those of the engine with this model."""

    def __init__(self, facts: ModelFacts, engine: EngineProfile, capabilities: Capabilities) -> None:
        self.facts = facts
        self.engine = engine
        self.capabilities = capabilities

    @abstractmethod
    def memory_breakdown(
        self, precision: Precision, context: int, batch: int, memory_kind: MemoryKind
    ) -> dict[str, int]:
        """Bytes by part: the weights' under the names of ``ModuleClass``, and those of caches and workspace."""

    def memory(self, precision: Precision, context: int, batch: int, memory_kind: MemoryKind) -> int:
        """Bytes of all parts together."""
        return sum(self.memory_breakdown(precision, context, batch, memory_kind).values())

    def min_memory(self, precision: Precision, need: Need, room: DeviceRoom) -> int:
        """Bytes for the context that was asked for, or for the shortest that is offered."""
        return self.memory(precision, self.min_context(need), need.batch, room.memory_kind)

    def min_context(self, need: Need) -> int:
        """Tokens of the context that was asked for, or of the shortest that is offered."""
        return need.context_length or min(self.facts.config.max_context, MIN_CONTEXT)

    def fitting_context(self, precision: Precision, need: Need, room: DeviceRoom) -> int:
        """Tokens of the context that was asked for, else of the preferred one that fits; 0 when nothing does."""

        def fits(context: int) -> bool:
            return self.memory(precision, context, need.batch, room.memory_kind) <= room.usable

        if need.context_length is not None:
            return need.context_length if fits(need.context_length) else 0
        return fitting_context(fits, self.facts.config.max_context, need.prefer)


class Setup(NamedTuple):
    """One way to run a model."""

    precision: Precision
    room: DeviceRoom
    context: int

    def option(self, prefer: Preference) -> Option:
        """The values that its rank depends on.

        Unless the longest context is wanted, one shorter than usual counts as usual, so that a context is shortened
        before weights lose bits. Speeds are left to the planner: on one device fewer bits would always win.
        """
        return Option(
            location="cpu" if self.room.memory_kind == "cpu" else "accelerator",
            bits=QuantizationConfig.of(self.precision).narrowest.bits,
            context=self.context if prefer == "context" else max(self.context, USUAL_CONTEXT),
        )


def fitting_setups(model: LocalModel, need: Need, choices: Iterable[tuple[Precision, DeviceRoom]]) -> list[Setup]:
    """The choices that have room, each with its context, best first; equals stay in the order they came in."""
    setups = [Setup(precision, room, model.fitting_context(precision, need, room)) for precision, room in choices]
    fitting = [setup for setup in setups if setup.context]
    return best_first(fitting, lambda setup: setup.option(need.prefer), need.prefer)


def offer_setup(
    model: LocalModel, setup: Setup, need: Need, hardware: Hardware, *, label: str, quantization_reason: str | None
) -> Offer:
    """The offer of a setup; ``label`` describes the precision in its reason."""
    precision, room, context = setup
    facts = model.facts
    parts = model.memory_breakdown(precision, context, need.batch, room.memory_kind)
    size, weights = sum(parts.values()), weight_parts(parts)
    return Offer(
        model=facts.name,
        source=None if facts.source is None else str(facts.source),
        placement=Placement(kind="local", devices=(room.device,)),
        quantization=precision,
        quantization_reason=quantization_reason,
        context_length=context,
        batch=need.batch,
        memory={room.device: size},
        breakdown={room.device: parts},
        weight_bytes=sum(weights.values()),
        tokens_per_second=_speed(model, setup, weights, hardware, batch=need.batch),
        capabilities=model.capabilities,
        reason=f"{label} with {describe_context(context, need.batch)} takes {gb(size)} of {gb(room.free)} "
        f"on {room.device}",
    )


def unsupported_context(facts: ModelFacts, need: Need) -> Unavailable | None:
    """The refusal of a context longer than the network was made for."""
    limit = facts.config.max_context
    if need.context_length is None or need.context_length <= limit:
        return None
    return Unavailable(
        reason=f"the context of '{facts.name}' is {limit} tokens; {need.context_length} were asked.",
        fix=f"Ask for a context_length of at most {limit}.",
    )


def unsupported_features(model: LocalModel, need: Need) -> Unavailable | None:
    """The refusal of features that the engine lacks with this model."""
    if missing := need.features - model.capabilities.features:
        return Unavailable(
            reason=f"with '{model.facts.name}' it does not support {', '.join(sorted(missing))}.",
            fix="Choose another model or backend: 'llama4sdk backends' lists what each can do.",
        )
    return None


def unknown_device(device: str | None, rooms: Iterable[DeviceRoom]) -> Unavailable:
    """The refusal of a device that is none of these."""
    names = ", ".join(room.device for room in rooms)
    return Unavailable(reason=f"there is no device '{device}' it can use.", fix=f"Choose among: {names}.")


def insufficient_memory(
    model: LocalModel, precision: Precision, need: Need, room: DeviceRoom, *, label: str, fix: str
) -> Unavailable:
    """The refusal of a precision, here described by ``label``, that has no room in the largest room."""
    size = model.min_memory(precision, need, room)
    return Unavailable(
        reason=f"'{model.facts.name}' {label} with {describe_context(model.min_context(need), need.batch)} "
        f"needs {gb(size)}; {room.describe_lack(size)}.",
        fix=fix,
        need_memory=size,
        have_memory=room.usable,
    )


def describe_fewer_tokens(model: LocalModel, precision: Precision, need: Need, room: DeviceRoom) -> str | None:
    """The shorter context or the smaller batch that would fit, as advice; ``None`` when neither does."""
    advice = []
    if need.context_length is not None:
        open_need = need.model_copy(update={"context_length": None, "prefer": "balanced"})
        if shorter := model.fitting_context(precision, open_need, room):
            advice.append(f"a context_length of {shorter}")

    def fits(batch: int) -> bool:
        return model.memory(precision, model.min_context(need), batch, room.memory_kind) <= room.usable

    if fewer := largest_fitting(fits, need.batch - 1):
        advice.append(f"a batch of {fewer}")
    return f"Ask for {' or '.join(advice)}." if advice else None


def _speed(
    model: LocalModel, setup: Setup, weights: dict[ModuleClass, int], hardware: Hardware, *, batch: int
) -> float | None:
    """Tokens per second of all answers behind short prompts, the middle of the prediction; ``None`` where unknown."""
    config = QuantizationConfig.of(setup.precision)
    part = whole_network(hardware, model.engine, setup.room.device, config.narrowest.value)
    if part is None:
        return None
    context, value_bytes = min(setup.context, SHORT_PROMPT), config.dtype.bits / 8
    speed = decode_speed(model.facts.config, weights, [part], context=context, batch=batch, value_bytes=value_bytes)
    return speed.middle
