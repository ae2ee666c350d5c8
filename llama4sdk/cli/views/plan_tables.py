"""A plan's decisions, rejections and numbers as tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from llama4sdk._text import gb
from llama4sdk.capacity.candidates import Candidate
from llama4sdk.capacity.engine_profiles import LayoutKind, find_engine
from llama4sdk.capacity.explanation import Explanation, Figure
from llama4sdk.capacity.layout import Layout
from llama4sdk.capacity.roofline import Interval
from llama4sdk.cli.views.number_format import format_number, format_speed
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable
from llama4sdk.plan import Plan, Rejection

PLACEMENTS: Final[dict[LayoutKind, str]] = {
    "single": "one device",
    "tensor": "split over",
    "pipeline": "stages over",
    "expert": "experts over",
    "layers": "layers over",
    "offload": "experts in RAM",
    "cpu": "RAM",
    "disk": "experts on disk",
}


def placement(layout: Layout) -> str:
    """How a layout uses the machine, in a word or two: ``split over 8``."""
    count = f" {len(layout.devices)}" if layout.kind in ("tensor", "pipeline", "expert", "layers") else ""
    return PLACEMENTS[layout.kind] + count


def candidate_speed(candidate: Candidate) -> str:
    """A candidate's predicted tokens a second, ``~`` before a guess and ``?`` for none."""
    return format_speed(candidate.decode, guessed=candidate.label == "guessed")


def decisions_table(plan: Plan) -> ResponsiveTable:
    """A plan's choices with their reasons, its memory and its speed."""
    table = _three_columns()
    for decision in plan.decisions:
        table.add_row(decision.what, decision.value, decision.reason)
    if plan.weight_bytes is not None:
        table.add_row("weights", gb(plan.weight_bytes), "in memory")
    for device, size in plan.memory.items():
        table.add_row("memory", gb(size), f"on {device}, cache and workspace included")
    if plan.tokens_per_second:
        table.add_row("speed", f"about {_rounded(plan.tokens_per_second)} tokens/s", f"modelled{_speed_of_each(plan)}")
    return table


def _speed_of_each(plan: Plan) -> str:
    """The part of the speed that each answer gets, where there are several."""
    batch = plan.batch or 1
    each = (plan.tokens_per_second or 0.0) / batch
    return f"; {batch} answers together, {_rounded(each)} tokens/s each" if batch > 1 else ""


def rejections_table(rejections: Iterable[Rejection]) -> ResponsiveTable:
    """Models and backends that were turned down, why, and what would help."""
    table = _three_columns()
    for rejection in rejections:
        reason = Text(rejection.reason)
        if rejection.fix:
            reason.append(f"\n→ {rejection.fix}", style="green")
        table.add_row(rejection.model or "any model", rejection.backend, reason)
    return table


def alternatives_table(candidates: Iterable[Candidate]) -> ResponsiveTable:
    """The best layout of engines that are not installed, and how to get them."""
    table = _three_columns()
    for candidate in candidates:
        layout = candidate.layout
        context = f"{f'{layout.batch} x ' if layout.batch > 1 else ''}{layout.context:,} tokens"
        text = Text(f"{layout.precision}, {placement(layout)}, {context}, {candidate_speed(candidate)} tokens/s")
        text.append(f"\n→ {find_engine(layout.engine).install}", style="green")
        table.add_row(layout.model, layout.engine, text)
    return table


def figure_pieces(explanation: Explanation) -> Iterator[RenderableType]:
    """The numbers of an explanation, each with how much it can be trusted."""
    for section in explanation.sections:
        yield Text("\n" + section.title, style="bold")
        columns = Column(), Column(right=True, style="cyan"), Column(style="dim"), Column()
        table = ResponsiveTable(*columns, prose=True)
        for figure in section.figures:
            table.add_row(figure.what, _value(figure), figure.label, figure.note)
        yield table


def _value(figure: Figure) -> str:
    """The number or interval with its unit."""
    value, unit = figure.value, figure.unit
    if isinstance(value, Interval):
        if unit == "share":
            return f"{value.low:.0%}-{value.high:.0%}"
        if unit == "bytes/s":
            return f"{gb(int(value.low))} to {gb(int(value.high))}/s"
        return f"{format_number(value.low)}-{format_number(value.high)} {unit}"
    size = gb(int(value))
    return size if unit == "bytes" else f"{size}/s"


def _three_columns() -> ResponsiveTable:
    """A table of a thing, the choice of it, and the reason."""
    return ResponsiveTable(Column(style="bold"), Column(style="cyan"), Column(), prose=True)


def _rounded(speed: float) -> str:
    """Two significant digits, without an exponent."""
    return f"{float(f'{speed:.2g}'):g}"
