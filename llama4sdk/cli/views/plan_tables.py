"""A plan's decisions, rejections and numbers as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from llama4sdk.capacity.candidates import Candidate
    from llama4sdk.capacity.engine_profiles import LayoutKind
    from llama4sdk.capacity.explanation import Explanation, Figure
    from llama4sdk.capacity.layouts import Layout
    from llama4sdk.plan import Plan, Rejection

__all__ = ["decisions", "engines", "figures", "rejections", "speed", "where"]

WHERE: Final[dict[LayoutKind, str]] = {
    "single": "one device",
    "tensor": "split over",
    "pipeline": "stages over",
    "expert": "experts over",
    "layers": "layers over",
    "offload": "experts in RAM",
    "cpu": "RAM",
    "disk": "experts on disk",
}


def where(layout: Layout) -> str:
    """How it lies over the machine, in a word or two."""
    count = f" {len(layout.devices)}" if layout.kind in ("tensor", "pipeline", "expert", "layers") else ""
    return WHERE[layout.kind] + count


def speed(candidate: Candidate) -> str:
    """Its predicted tokens a second, ``~`` before a guess and ``?`` for none."""
    if candidate.decode is None:
        return "?"
    return f"{'~' if candidate.label == 'guessed' else ''}{short(candidate.decode.low)}-{short(candidate.decode.high)}"


def short(number: float) -> str:
    """Two digits that mean something."""
    return f"{number:.2g}" if number < 1 else f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def decisions(plan: Plan) -> Table:
    """What was chosen, and why."""
    from llama4sdk._text import gb

    table = _grid()
    for decision in plan.decisions:
        table.add_row(decision.what, decision.value, decision.reason)
    if plan.weight_bytes is not None:
        table.add_row("weights", gb(plan.weight_bytes), "in memory")
    for device, size in plan.memory.items():
        table.add_row("memory", gb(size), f"on {device}, cache and workspace included")
    if plan.tokens_per_second:
        table.add_row("speed", f"about {_rounded(plan.tokens_per_second)} tokens/s", f"modelled{_shared(plan)}")
    return table


def _shared(plan: Plan) -> str:
    """What of it each answer gets, where there are several."""
    batch = plan.batch or 1
    each = (plan.tokens_per_second or 0.0) / batch
    return f"; {batch} answers together, {_rounded(each)} tokens/s each" if batch > 1 else ""


def rejections(found: Sequence[Rejection]) -> Table:
    """What was not, why, and what would help."""
    from rich.text import Text

    table = _grid()
    for rejection in found:
        reason = Text(rejection.reason)
        if rejection.fix:
            reason.append(f"\n→ {rejection.fix}", style="green")
        table.add_row(rejection.model or "any model", rejection.backend, reason)
    return table


def engines(found: Sequence[Candidate]) -> Table:
    """What engines that are not installed would do, and how to get them."""
    from rich.text import Text

    from llama4sdk.capacity.engine_profiles import find_engine

    table = _grid()
    for candidate in found:
        layout = candidate.layout
        context = f"{f'{layout.batch} x ' if layout.batch > 1 else ''}{layout.context:,} tokens"
        what = Text(f"{layout.precision}, {where(layout)}, {context}, {speed(candidate)} tokens/s")
        what.append(f"\n→ {find_engine(layout.engine).install}", style="green")
        table.add_row(layout.model, layout.engine, what)
    return table


def figures(explanation: Explanation) -> Iterator[RenderableType]:
    """The numbers, each with how much it can be trusted."""
    from rich.table import Table
    from rich.text import Text

    from llama4sdk.cli.views.responsive_table import Fitted

    for section in explanation.sections:
        yield Text("\n" + section.title, style="bold")
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column(max_width=44, overflow="fold")
        table.add_column(justify="right", style="cyan", no_wrap=True)
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        for figure in section.figures:
            table.add_row(figure.what, _spelled(figure), figure.label, figure.note)
        rows = [((figure.what, _spelled(figure), figure.label, figure.note), None) for figure in section.figures]
        yield Fitted(table, rows, right=(1,))


def _spelled(figure: Figure) -> str:
    from llama4sdk._text import gb
    from llama4sdk.capacity.roofline import Interval

    value, unit = figure.value, figure.unit
    if isinstance(value, Interval):
        if unit == "share":
            return f"{value.low:.0%}-{value.high:.0%}"
        if unit == "bytes/s":
            return f"{gb(int(value.low))} to {gb(int(value.high))}/s"
        return f"{short(value.low)}-{short(value.high)} {unit}"
    size = gb(int(value))
    return size if unit == "bytes" else f"{size}/s"


def _grid() -> Table:
    """Three columns: what, which, why."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    return table


def _rounded(speed: float) -> str:
    """To two digits, without an exponent."""
    return f"{float(f'{speed:.2g}'):g}"
