"""``llama4sdk backends``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag
from llama4sdk.cli.views.progress_bars import spinner
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable
from llama4sdk.cli.views.status_marks import describe_check, status_mark

if TYPE_CHECKING:
    from pydantic import JsonValue

    from llama4sdk.diagnostics.machine import Check
    from llama4sdk.diagnostics.report import Report
    from llama4sdk.registry import Registered


def backends(*, json: JsonFlag = False) -> None:
    """List the backends that plugins bring: what they can do, and whether they work here."""
    from llama4sdk.diagnostics.facts import gather
    from llama4sdk.diagnostics.report import examine

    with spinner("Asking the backends …"):
        report = examine(gather())
    if json:
        print_json(_document(report))
    else:
        show(_table(report))


def _document(report: Report) -> dict[str, JsonValue]:
    backends: list[JsonValue] = [
        {**entry.model_dump(mode="json"), **check.model_dump(include={"status", "text", "fix"})}
        for entry, check in zip(report.backends, _checks(report), strict=False)
    ]
    return {"backends": backends, "failures": [failure.model_dump(mode="json") for failure in report.failures]}


def _checks(report: Report) -> list[Check]:
    """The report's checks of each backend, then of each failed plugin."""
    return [check for check in report.checks if check.section == "backends" and check.source]


def _table(report: Report) -> ResponsiveTable:
    columns = Column(), Column("backend", style="bold"), Column("plugin"), Column("state")
    table = ResponsiveTable(*columns, prose=True)
    features = [_features(entry) for entry in report.backends] + [""] * len(report.failures)
    for check, names in zip(_checks(report), features, strict=True):
        state = describe_check(check)
        if names:
            state.append(f"\n{names}", style="dim")
        table.add_row(status_mark(check.status), check.title, check.source or "", state)
    return table


def _features(entry: Registered) -> str:
    capabilities = entry.info.capabilities
    return ", ".join(sorted(capabilities.features)) + (" (remote)" if capabilities.remote else "")
