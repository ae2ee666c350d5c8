"""``llama4sdk doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from llama4sdk.cli.console import print_json, show
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
HEALTH: Final = {"ok": 0, "warn": 1, "fail": 2}
"""The exit status by the worst of all findings; ``doctor`` has its own."""
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
    raise typer.Exit(HEALTH["fail" if report.broken else "warn" if report.hindered else "ok"])


def _pieces(report: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    from llama4sdk.cli.outlook import outlook_pieces

    yield Text(f"llama4sdk {report.version}", style="bold")
    for section, heading in SECTIONS.items():
        if section == "models":
            yield ""
            yield Text("  What this machine can run", style="bold")
            yield from outlook_pieces(report.outlook)
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

    broken, hindered = len(report.broken), len(report.hindered)
    words = [_count(broken, "is", "are") + " broken" if broken else "Nothing is broken"]
    if hindered:
        words.append(_count(hindered, "keeps", "keep") + " something from working")
    status: Status = "fail" if broken else "warn" if hindered else "ok"
    return Text.assemble(mark(status), (f" {'; '.join(words)}.", "bold"))


def _count(number: int, one: str, many: str) -> str:
    return f"1 thing {one}" if number == 1 else f"{number} things {many}"
