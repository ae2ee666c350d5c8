"""What a machine could run, in one short table: for each model and number of bits the best layout there is. Pure.

Engines that are not installed count, too, but come second to an installed one that does as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, Literal, TypeAlias

from llama4sdk._values import Value
from llama4sdk.capacity.candidates import Candidate, candidates, rank
from llama4sdk.capacity.engine_profiles import ENGINES, LayoutKind, find_engine
from llama4sdk.capacity.layouts import class_bytes
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.roofline import Interval
from llama4sdk.catalog import models
from llama4sdk.catalog.models import ModelSpec
from llama4sdk.diagnostics.machine import reaches_accelerators
from llama4sdk.hardware import Hardware
from llama4sdk.weights.store import DEMO_SIZE

__all__ = ["LINK_SPEED", "Outlook", "outlook"]

Bits: TypeAlias = Literal[16, 8, 4, 2]

CLASSES: Final[tuple[tuple[Bits, range], ...]] = ((16, range(16, 33)), (8, range(8, 16)), (4, range(4, 5)))
FEWER: Final = range(2, 4)
"""Shown only where nothing fits at four bits, or a plan takes fewer because four would be too slow."""

LINK_SPEED: Final = 100_000_000
"""Bytes per second of a download that nobody has measured."""


class Outlook(Value):
    """One row. Where ``fits`` is false it is the layout that lacks least, and ``lacks`` and ``at`` say what."""

    model: str
    bits: Bits
    """Of a weight, nearly."""
    engine: str
    installed: bool
    install: str
    precision: str
    kind: LayoutKind
    devices: tuple[str, ...]
    fits: bool
    verdict: str
    lacks: int = 0
    """Bytes missing ``at`` the device, ``cpu`` or ``disk`` that has least room for its part."""
    at: str | None = None
    context: int = 0
    """Tokens; the longest there is room for, but of layouts over several kinds of memory (``offload``, ``disk``) a
    usual one, as they trade it for speed."""
    decode: Interval | None = None
    """Tokens per second of one answer."""
    label: Literal["modelled", "guessed"]
    download: int
    """Bytes of a checkpoint in this precision."""
    download_seconds: float
    disk_fits: bool | None
    """Whether the disk has room for the download; ``None`` where it is not known, or the model is here already."""
    here: bool


def outlook(
    machine: Hardware,
    *,
    usable: Collection[str],
    here: Collection[str] = (),
    link_speed: int = LINK_SPEED,
) -> tuple[Outlook, ...]:
    """Scout, Maverick and the demo in 16, 8 and 4 bits (the demo as it is published), and in fewer where 4 do not
    fit, or are so slow that a plan takes fewer.

    ``usable`` are the backends that work, ``here`` the models whose weights are on this machine; ``link_speed`` is in
    bytes per second.
    """
    rows = []
    for spec in (models.SCOUT, models.MAVERICK, models.DEMO):
        found = list(_candidates(spec, machine))
        for bits, best in _best(spec, found, usable):
            rows.append(_row(spec, bits, best, machine, usable=usable, here=spec.name in here, link_speed=link_speed))
    return tuple(rows)


def _candidates(spec: ModelSpec, machine: Hardware) -> Iterator[Candidate]:
    """Ours without the accelerators that its library cannot use as it is installed."""
    bare = machine if reaches_accelerators(machine) else machine.model_copy(update={"devices": (), "links": ()})
    for engine in ENGINES:
        yield from candidates(
            [ModelFacts.from_spec(spec)], bare if engine.backend == "torch" else machine, engines=[engine]
        )


def _best(spec: ModelSpec, found: Sequence[Candidate], usable: Collection[str]) -> Iterator[tuple[Bits, Candidate]]:
    classes = CLASSES[:1] if spec is models.DEMO else CLASSES
    for bits, widths in classes:
        yield bits, _first([candidate for candidate in found if candidate.bits in widths], usable)
    small = rank([candidate for candidate in found if candidate.bits in range(FEWER.start, CLASSES[-1][1].stop)])
    if spec is not models.DEMO and small and small[0].bits in FEWER:
        yield 2, _first([candidate for candidate in found if candidate.bits in FEWER], usable)


def _first(found: Sequence[Candidate], usable: Collection[str]) -> Candidate:
    """The best, or an installed engine in the same kind of memory. Where nothing fits, the one that lacks least."""
    if ranked := rank(found):
        alike = (candidate for candidate in ranked if candidate.location == ranked[0].location)
        return next((candidate for candidate in alike if _installed(candidate, usable)), ranked[0])
    lacking = [candidate for candidate in found if not candidate.layout.fits]
    return min(lacking or found, key=lambda candidate: candidate.layout.missing)


def _installed(candidate: Candidate, usable: Collection[str]) -> bool:
    return find_engine(candidate.layout.engine).backend in usable


def _row(
    spec: ModelSpec,
    bits: Bits,
    best: Candidate,
    machine: Hardware,
    *,
    usable: Collection[str],
    here: bool,
    link_speed: int,
) -> Outlook:
    layout, engine = best.layout, find_engine(best.layout.engine)
    size = _download(spec, layout.precision)
    fits = layout.fits and layout.support[0] != "refused"
    worst = max(layout.shares, key=lambda share: share.missing)
    room = None if machine.disk_free is None or here else size <= machine.disk_free
    return Outlook(
        model=spec.name,
        bits=bits,
        engine=engine.name,
        installed=engine.backend in usable,
        install=engine.install,
        precision=layout.precision,
        kind=layout.kind,
        devices=layout.devices,
        fits=fits,
        verdict=layout.verdict,
        lacks=worst.missing,
        at=worst.device if worst.missing else None,
        context=layout.context if fits else 0,
        decode=best.decode if fits else None,
        label=best.label,
        download=size,
        download_seconds=size / link_speed,
        disk_fits=room,
        here=here,
    )


def _download(spec: ModelSpec, precision: str) -> int:
    if spec is models.DEMO:
        return DEMO_SIZE
    return sum(class_bytes(ModelFacts.from_spec(spec), precision).values())
