"""``llama4sdk doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from llama4sdk.cli.console import note, print_json, show, stderr
from llama4sdk.cli.options import JsonFlag
from llama4sdk.cli.views.progress_bars import spinner
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable
from llama4sdk.cli.views.status_marks import describe_check, status_mark
from llama4sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from llama4sdk.diagnostics.machine import Check, Status
    from llama4sdk.diagnostics.report import Report

SEVERITY: Final[tuple[Status, ...]] = ("ok", "warn", "fail")
#: The doctor's own exit statuses, by its worst check.
EXIT_CODES: Final = {"ok": 0, "warn": 1, "fail": 2}
SECTIONS: Final = {"machine": "This machine", "backends": "Backends", "models": "Models here", "plan": "The plan"}

VerboseFlag = Annotated[bool, typer.Option("--verbose", help="Also versions, credentials by name, links, timings.")]
BenchFlag = Annotated[
    bool, typer.Option("--bench", help="Measure memory, disk and links first (two seconds), and keep the figures.")
]


def doctor(*, json: JsonFlag = False, verbose: VerboseFlag = False, bench: BenchFlag = False) -> None:
    """Show what this machine can run, what it cannot, and what to fix.

    Ends with 0 when nothing is wrong, 1 when something cannot work as things are, 2 when something is broken.
    """
    from llama4sdk.diagnostics.facts import gather
    from llama4sdk.diagnostics.report import examine

    if bench:
        _measure()
    with spinner("Looking around …"):
        report = examine(gather(details=verbose))
    if json:
        print_json(report.model_dump(mode="json", by_alias=True))
    else:
        show(*_pieces(report, verbose=verbose))
    raise typer.Exit(EXIT_CODES[_worst(report.checks)])


def _measure() -> None:
    """Measure the machine, and keep the figures for plans. Raises ConfigurationError where it stands for another."""
    from llama4sdk import settings
    from llama4sdk.diagnostics.measure import measure_machine
    from llama4sdk.probe import measurements, probe

    if file := settings.hardware_file():
        raise ConfigurationError(f"LLAMA4SDK_HARDWARE describes another machine ({file}).", hint="Unset it to measure.")
    home = settings.home()
    with stderr().status("Measuring …") as status:
        machine = probe()
        measured = measure_machine(machine, home, step=lambda name: status.update(f"Measuring {name} …"))
        measured = measured.model_copy(update={"download": machine.download_bandwidth})  # measured by downloading
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1):
        note("Other programs were busy, so that the figures may be too low.")
    note(f"Measured; kept in {measurements.save(home, measured)}.")


def _pieces(report: Report, *, verbose: bool) -> Iterator[RenderableType]:
    from llama4sdk.cli.views.doctor_details import detail_pieces
    from llama4sdk.cli.views.runnable import runnable_pieces
    from llama4sdk.diagnostics.report import summarize_remote

    all_checks = report.checks if verbose else summarize_remote(report)
    yield Text(f"llama4sdk {report.version}", style="bold")
    for section, heading in SECTIONS.items():
        if section == "models":
            yield ""
            yield Text("  What this machine can run", style="bold")
            yield from runnable_pieces(report.runnable)
        checks = [check for check in all_checks if check.section == section]
        if checks:
            yield ""
            yield Text.assemble(status_mark(_worst(checks)), (f" {heading}", "bold"))
            yield _table(checks, sources=verbose)
    if verbose:
        yield from detail_pieces(report)
    yield ""
    yield _verdict(report.checks)
    if report.plan is not None and report.plan.notice:
        yield Text(report.plan.notice, style="dim")


def _table(checks: Sequence[Check], *, sources: bool) -> Padding:
    table = ResponsiveTable(Column(), Column(style="bold"), Column(), prose=True)
    for check in checks:
        text = describe_check(check, source=sources or check.status != "ok")
        table.add_row(status_mark(check.status), check.title, text)
    return Padding(table, (0, 0, 0, 2))


def _worst(checks: Sequence[Check]) -> Status:
    """The worst status of the checks, of which information is none."""
    return max((check.status for check in checks if check.status != "info"), key=SEVERITY.index, default="ok")


def _verdict(checks: Sequence[Check]) -> Text:
    statuses = [check.status for check in checks]
    failed, warnings = statuses.count("fail"), statuses.count("warn")
    clauses = [_count(failed, "is", "are") + " broken" if failed else "Nothing is broken"]
    if warnings:
        clauses.append(_count(warnings, "keeps", "keep") + " something from working")
    return Text.assemble(status_mark(_worst(checks)), (f" {'; '.join(clauses)}.", "bold"))


def _count(number: int, singular: str, plural: str) -> str:
    return f"1 thing {singular}" if number == 1 else f"{number} things {plural}"
