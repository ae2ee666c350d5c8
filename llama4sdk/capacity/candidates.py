"""Layouts with their predicted speeds, and the order they are preferred in. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Final, Literal

from llama4sdk._values import Value
from llama4sdk.capacity.engine_profiles import ENGINES, EngineProfile, LayoutKind
from llama4sdk.capacity.layout import Layout, class_bytes
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.ranking import MIN_TOKENS_PER_SECOND, Location, Option, best_first
from llama4sdk.capacity.roofline import ClassBytes, Interval, decode_speed, prefill_speed
from llama4sdk.capacity.sites import network_parts
from llama4sdk.catalog.accelerators import accelerator_of
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Preference

#: Tokens of the prompt that speeds are predicted for.
SHORT_PROMPT: Final = 512

#: Bits of a weight where a precision's name does not say.
USUAL_BITS: Final = 4

LOCATIONS: Final[dict[LayoutKind, Location]] = {"offload": "offload", "cpu": "cpu", "disk": "disk"}

#: Tokens of a context with which a device may be filled to the last, for it has room for a long conversation.
LONG_CONVERSATION: Final = 32_768

#: A device filled to this share has no room for more.
FILLED_SHARE: Final = 0.97


class Candidate(Value):
    """One layout with its predicted speeds; ``None`` where too little is known."""

    layout: Layout
    #: Tokens per second of all the answers of the layout's batch together, behind short prompts.
    decode: Interval | None
    prefill: Interval | None
    #: Whether the engine has been measured on such a machine, or is taken to be like others.
    label: Literal["modelled", "guessed"]

    @property
    def bits(self) -> int:
        """Bits of a weight, nearly: the first number in the precision's name."""
        number = re.search(r"\d+", self.layout.precision)
        return int(number[0]) if number else USUAL_BITS

    @property
    def location(self) -> Location:
        """The memory that the weights lie in."""
        return LOCATIONS.get(self.layout.kind, "accelerator")

    @property
    def option(self) -> Option:
        """The facts that its rank depends on."""
        layout = self.layout
        return Option(
            location=self.location,
            bits=self.bits,
            speed=self._cautious_speed,
            context=layout.context,
            crowded=self._crowded,
            guessed=self.label == "guessed",
            native_format=layout.support[0] == "native",
            devices=len(layout.devices),
        )

    @property
    def _cautious_speed(self) -> float:
        """The low end of the prediction; without one, a bearable speed on accelerators and none elsewhere."""
        if self.decode is not None:
            return self.decode.low
        return MIN_TOKENS_PER_SECOND if self.location == "accelerator" else 0.0

    @property
    def _crowded(self) -> bool:
        layout = self.layout
        if layout.context >= LONG_CONVERSATION or layout.kind in ("offload", "disk"):  # whose context is a usual one
            return False
        return any(share.total > FILLED_SHARE * share.room for share in layout.shares)


def rank(every: Sequence[Candidate], prefer: Preference = "balanced") -> list[Candidate]:
    """The candidates that fit and are not refused, best first."""
    usable = [candidate for candidate in every if candidate.layout.usable]
    return best_first(usable, lambda candidate: candidate.option, prefer)


def best_of_each(every: Sequence[Candidate], prefer: Preference = "balanced") -> list[Candidate]:
    """For every model, engine and precision the best layout; where none can run, the one that lacks least."""
    groups: dict[tuple[str, str, str], list[Candidate]] = {}
    for candidate in every:
        layout = candidate.layout
        groups.setdefault((layout.model, layout.engine, layout.precision), []).append(candidate)
    return [best_or_nearest(group, prefer) for group in groups.values()]


def best_or_nearest(every: Sequence[Candidate], prefer: Preference = "balanced") -> Candidate:
    """The best that can run; where none can, the one that lacks least."""
    ranked = rank(every, prefer)
    return ranked[0] if ranked else min(every, key=lambda candidate: candidate.layout.missing)


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
    for model, engine in product(models, engines):
        for precision in _precisions(model, engine):
            for layout in layouts(model, engine, machine, precision, context=context, batch=batch, kv_bytes=kv_bytes):
                yield timed(layout, model, engine, machine)


def timed(
    layout: Layout,
    model: ModelFacts,
    engine: EngineProfile,
    machine: Hardware,
    *,
    weights: ClassBytes | None = None,
) -> Candidate:
    """A layout with its predicted speeds. ``weights`` are those of its precision, unless given."""
    parts = network_parts(layout, engine, machine)
    if parts is None:
        return Candidate(layout=layout, decode=None, prefill=None, label="guessed")
    weights = weights or class_bytes(model, layout.precision)
    unknown = any(d.id in layout.devices and accelerator_of(d) is None for d in machine.devices)
    guessed = unknown or any(part.calibration.label == "guessed" for part in parts)
    context, batch = min(layout.context, SHORT_PROMPT), layout.batch
    return Candidate(
        layout=layout,
        decode=decode_speed(model.config, weights, parts, context=context, batch=batch, value_bytes=layout.kv_bytes),
        prefill=prefill_speed(model.config, parts, tokens=SHORT_PROMPT),
        label="guessed" if guessed else "modelled",
    )


def _precisions(model: ModelFacts, engine: EngineProfile) -> tuple[str, ...]:
    """The form that a checkpoint has already, where the engine loads it, and those the engine makes."""
    stored = model.stored
    as_stored = (stored.precision,) if stored is not None and engine.name in stored.engines else ()
    return as_stored + engine.precisions
