"""``llama4sdk doctor``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag
from llama4sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.padding import Padding
    from rich.text import Text

    from llama4sdk.diagnostics.machine import Check, Status
    from llama4sdk.diagnostics.report import Report

__all__ = ["doctor"]

SEVERITY: Final[tuple[Status, ...]] = ("ok", "info", "warn", "fail")
HEALTH: Final = {"ok": 0, "warn": 1, "fail": 2}
"""The exit status by the worst of all findings; ``doctor`` has its own."""
SECTIONS: Final = {"machine": "This machine", "backends": "Backends", "models": "Models here", "plan": "The plan"}


VerboseFlag = Annotated[bool, typer.Option("--verbose", help="Also versions, credentials by name, links, timings.")]
BenchFlag = Annotated[
    bool, typer.Option("--bench", help="Measure memory, disk and links first (two seconds), and keep the figures.")
]


def doctor(*, json: JsonFlag = False, verbose: VerboseFlag = False, bench: BenchFlag = False) -> None:
    """Show what this machine can run, what it cannot, and what to fix.

    Ends with 0 when nothing is wrong, 1 when something cannot work as things are, 2 when something is broken.
    """
    from llama4sdk.cli.clients import waiting
    from llama4sdk.diagnostics.facts import gather
    from llama4sdk.diagnostics.report import examine

    if bench:
        _measure()
    with waiting("Looking around …"):
        report = examine(gather(details=verbose))
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        show(*_pieces(report, verbose=verbose))
    raise typer.Exit(HEALTH["fail" if report.broken else "warn" if report.hindered else "ok"])


def _measure() -> None:
    """Measure, saying what; keep it for plans, and say what it was."""
    from llama4sdk import settings
    from llama4sdk.cli.console import note, stderr
    from llama4sdk.diagnostics.measure import bench
    from llama4sdk.probe import measurements, probe

    if file := settings.hardware_file():
        raise ConfigurationError(f"LLAMA4SDK_HARDWARE describes another machine ({file}).", hint="Unset it to measure.")
    home, console = settings.home(), stderr()
    with console.status("Measuring …") as status:
        machine = probe()
        found = bench(machine, home, step=lambda what: status.update(f"Measuring {what} …"))
        found = found.model_copy(update={"download": machine.download_bandwidth})  # measured by downloading
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1):
        note("Other programs were busy, so that the figures may be too low.")
    note(f"Measured; kept in {measurements.save(home, found)}.")


def _pieces(report: Report, *, verbose: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    from llama4sdk.cli.views.doctor_details import detail_pieces
    from llama4sdk.cli.views.runnable import outlook_pieces
    from llama4sdk.diagnostics.report import shortened

    yield Text(f"llama4sdk {report.version}", style="bold")
    for section, heading in SECTIONS.items():
        if section == "models":
            yield ""
            yield Text("  What this machine can run", style="bold")
            yield from outlook_pieces(report.outlook)
        shown = report.checks if verbose else shortened(report)
        checks = [check for check in shown if check.section == section]
        if checks:
            yield ""
            yield _heading(heading, checks)
            yield _table(checks, sources=verbose)
    if verbose:
        yield from detail_pieces(report)
    yield ""
    yield _verdict(report)
    if report.plan is not None and report.plan.notice:
        yield Text(report.plan.notice, style="dim")


def _heading(heading: str, checks: list[Check]) -> Text:
    from rich.text import Text

    from llama4sdk.cli.views.status_marks import mark

    worst = max((check.status for check in checks), key=SEVERITY.index)
    return Text.assemble(mark("ok" if worst == "info" else worst), (f" {heading}", "bold"))


def _table(checks: list[Check], *, sources: bool) -> Padding:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from llama4sdk.cli.views.status_marks import mark, remark

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(mark(check.status), Text(check.title), remark(check, source=sources or check.status != "ok"))
    return Padding(table, (0, 0, 0, 2))


def _verdict(report: Report) -> Text:
    from rich.text import Text

    from llama4sdk.cli.views.status_marks import mark

    broken, hindered = len(report.broken), len(report.hindered)
    words = [_count(broken, "is", "are") + " broken" if broken else "Nothing is broken"]
    if hindered:
        words.append(_count(hindered, "keeps", "keep") + " something from working")
    status: Status = "fail" if broken else "warn" if hindered else "ok"
    return Text.assemble(mark(status), (f" {'; '.join(words)}.", "bold"))


def _count(number: int, one: str, many: str) -> str:
    return f"1 thing {one}" if number == 1 else f"{number} things {many}"
