"""``llama4sdk doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.errors import ExitCode
from llama4sdk.cli.options import JsonFlag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType
    from rich.padding import Padding
    from rich.text import Text

    from llama4sdk.doctor import Report
    from llama4sdk.findings import Check, Status

__all__ = ["doctor"]

SEVERITY: Final[tuple[Status, ...]] = ("ok", "info", "warn", "fail")
SECTIONS: Final = {"machine": "This machine", "backends": "Backends", "models": "Models here", "plan": "The plan"}


def doctor(*, json: JsonFlag = False) -> None:
    """Show what this machine can run, what it cannot, and what to fix."""
    from llama4sdk import doctor as examination
    from llama4sdk.cli.clients import waiting

    with waiting("Looking around …"):
        report = examination.examine(examination.gather())
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        show(*_pieces(report))
    if report.broken:
        raise typer.Exit(ExitCode.UNHEALTHY)


def _pieces(report: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    yield Text(f"llama4sdk {report.version}", style="bold")
    for section, heading in SECTIONS.items():
        checks = [check for check in report.checks if check.section == section]
        if checks:
            yield ""
            yield _heading(heading, checks)
            yield _table(checks)
    yield ""
    yield _verdict(report)
    if report.plan is not None and report.plan.notice:
        yield Text(report.plan.notice, style="dim")


def _heading(heading: str, checks: list[Check]) -> Text:
    from rich.text import Text

    from llama4sdk.cli.marks import mark

    worst = max((check.status for check in checks), key=SEVERITY.index)
    return Text.assemble(mark("ok" if worst == "info" else worst), (f" {heading}", "bold"))


def _table(checks: list[Check]) -> Padding:
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from llama4sdk.cli.marks import mark, remark

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        table.add_row(mark(check.status), Text(check.title), remark(check, source=True))
    return Padding(table, (0, 0, 0, 2))


def _verdict(report: Report) -> Text:
    from rich.text import Text

    from llama4sdk.cli.marks import mark

    count = len(report.broken)
    words = "Nothing is broken." if not count else "1 thing is broken." if count == 1 else f"{count} things are broken."
    return Text.assemble(mark("fail" if count else "ok"), (f" {words}", "bold"))
