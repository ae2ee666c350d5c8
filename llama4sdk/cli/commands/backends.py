"""``llama4sdk backends``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag

if TYPE_CHECKING:
    from pydantic import JsonValue
    from rich.table import Table

    from llama4sdk.diagnostics.machine import Check
    from llama4sdk.diagnostics.report import Report
    from llama4sdk.registry import Registered

__all__ = ["backends"]


def backends(*, json: JsonFlag = False) -> None:
    """List the backends that plugins bring: what they can do, and whether they work here."""
    from llama4sdk.cli.clients import waiting
    from llama4sdk.diagnostics.facts import gather
    from llama4sdk.diagnostics.report import examine

    with waiting("Asking the backends …"):
        report = examine(gather())
    if json:
        print_json(_described(report))
    else:
        show(_table(report))


def _described(report: Report) -> dict[str, JsonValue]:
    found: list[JsonValue] = []
    for entry, check in zip(report.backends, _checks(report), strict=False):
        state: dict[str, JsonValue] = {"status": check.status, "text": check.text, "fix": check.fix}
        found.append({**entry.model_dump(mode="json"), **state})
    return {"backends": found, "failures": [failure.model_dump(mode="json") for failure in report.failures]}


def _checks(report: Report) -> list[Check]:
    """The report's words on each backend and each failure, in the order of both."""
    return [check for check in report.checks if check.section == "backends" and check.source]


def _table(report: Report) -> Table:
    from rich import box
    from rich.table import Table

    from llama4sdk.cli.views.status_marks import mark, remark

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("Backend", style="bold", no_wrap=True)
    table.add_column("Plugin", overflow="fold")
    table.add_column("State", overflow="fold")
    abilities = [_abilities(entry) for entry in report.backends] + [""] * len(report.failures)
    for check, ability in zip(_checks(report), abilities, strict=True):
        state = remark(check)
        if ability:
            state.append(f"\n{ability}", style="dim")
        table.add_row(mark(check.status), check.title, check.source, state)
    return table


def _abilities(entry: Registered) -> str:
    return ", ".join(sorted(entry.info.capabilities.features)) + (" (remote)" if entry.info.capabilities.remote else "")
