"""The best layout that a machine has for each model and number of bits. Pure.

Engines that are not installed are included, but an installed one that does as well goes first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final, Literal, TypeAlias

from llama4sdk._values import Value
from llama4sdk.capacity.candidates import Candidate, candidates, rank
from llama4sdk.capacity.engine_profiles import ENGINES, LayoutKind, find_engine
from llama4sdk.capacity.layout import class_bytes
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.roofline import Interval
from llama4sdk.catalog import models
from llama4sdk.catalog.models import ModelSpec
from llama4sdk.diagnostics.machine import reaches_accelerators
from llama4sdk.hardware import Hardware
from llama4sdk.weights.store import DEMO_SIZE

Bits: TypeAlias = Literal[16, 8, 4, 2]

#: The rows of every model, and the bits of a weight that belong to each.
WIDTHS: Final[tuple[tuple[Bits, range], ...]] = ((16, range(16, 33)), (8, range(8, 16)), (4, range(4, 5)))
#: A row only where nothing fits at four bits, or a plan takes fewer because four would be too slow.
FEWER_BITS: Final = range(2, 4)

#: Bytes per second of a download, where none has been measured.
LINK_SPEED: Final = 100_000_000


class RunnableModel(Value):
    """One row. Where ``fits`` is false it is the layout that lacks least, and ``lacks`` and ``at`` say what."""

    model: str
    #: Bits of a weight, nearly.
    bits: Bits
    engine: str
    installed: bool
    install: str
    precision: str
    kind: LayoutKind
    devices: tuple[str, ...]
    fits: bool
    verdict: str
    #: Bytes missing ``at`` the device, ``cpu`` or ``disk`` that has least room for its part.
    lacks: int = 0
    at: str | None = None
    #: Tokens; the longest there is room for, but of layouts over several kinds of memory (``offload``, ``disk``) a
    #: usual one, as they trade it for speed.
    context: int = 0
    #: Tokens per second of one answer.
    decode: Interval | None = None
    label: Literal["modelled", "guessed"]
    #: Bytes of a checkpoint in this precision.
    download: int
    download_seconds: float
    #: Whether the disk has room for the download; ``None`` where it is not known, or the model is here already.
    disk_fits: bool | None
    here: bool


def runnable_models(
    machine: Hardware, *, usable: Collection[str], here: Collection[str] = (), link_speed: int = LINK_SPEED
) -> tuple[RunnableModel, ...]:
    """Scout and Maverick in 16, 8 and 4 bits, in fewer where those fit better, and the demo as it is published.

    Args:
        machine: The machine to run them on.
        usable: Names of the backends that work.
        here: Models whose weights are on this machine.
        link_speed: Bytes per second of a download.

    """
    rows = []
    for spec in (models.SCOUT, models.MAVERICK, models.DEMO):
        every = list(_candidates(spec, machine))
        for bits, best in _best(spec, every, usable):
            installed = _is_installed(best, usable)
            rows.append(
                _row(spec, bits, best, machine, installed=installed, here=spec.name in here, link_speed=link_speed)
            )
    return tuple(rows)


def _candidates(spec: ModelSpec, machine: Hardware) -> Iterator[Candidate]:
    """All layouts; those of torch without accelerators that the installed build cannot use."""
    bare = machine if reaches_accelerators(machine) else machine.model_copy(update={"devices": (), "links": ()})
    for engine in ENGINES:
        usable = bare if engine.backend == "torch" else machine
        yield from candidates([ModelFacts.from_spec(spec)], usable, engines=[engine])


def _best(spec: ModelSpec, every: Sequence[Candidate], usable: Collection[str]) -> Iterator[tuple[Bits, Candidate]]:
    """The first choice for each number of bits."""
    for bits, widths in WIDTHS[:1] if spec is models.DEMO else WIDTHS:
        yield bits, _first_choice([candidate for candidate in every if candidate.bits in widths], usable)
    small = rank([candidate for candidate in every if candidate.bits in range(FEWER_BITS.start, WIDTHS[-1][1].stop)])
    if spec is not models.DEMO and small and small[0].bits in FEWER_BITS:
        yield 2, _first_choice([candidate for candidate in every if candidate.bits in FEWER_BITS], usable)


def _first_choice(every: Sequence[Candidate], usable: Collection[str]) -> Candidate:
    """The best, or an installed engine in the same kind of memory. Where nothing fits, the one that lacks least."""
    if ranked := rank(every):
        alike = (candidate for candidate in ranked if candidate.location == ranked[0].location)
        return next((candidate for candidate in alike if _is_installed(candidate, usable)), ranked[0])
    too_large = [candidate for candidate in every if not candidate.layout.fits]
    return min(too_large or every, key=lambda candidate: candidate.layout.missing)


def _is_installed(candidate: Candidate, usable: Collection[str]) -> bool:
    return find_engine(candidate.layout.engine).backend in usable


def _row(
    spec: ModelSpec, bits: Bits, best: Candidate, machine: Hardware, *, installed: bool, here: bool, link_speed: int
) -> RunnableModel:
    layout, engine = best.layout, find_engine(best.layout.engine)
    size = _download_bytes(spec, layout.precision)
    fits = layout.fits and layout.support[0] != "refused"
    worst = max(layout.shares, key=lambda share: share.missing)
    disk_fits = None if machine.disk_free is None or here else size <= machine.disk_free
    return RunnableModel(
        model=spec.name,
        bits=bits,
        engine=engine.name,
        installed=installed,
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
        disk_fits=disk_fits,
        here=here,
    )


def _download_bytes(spec: ModelSpec, precision: str) -> int:
    if spec is models.DEMO:
        return DEMO_SIZE
    return sum(class_bytes(ModelFacts.from_spec(spec), precision).values())
