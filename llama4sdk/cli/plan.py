"""``llama4sdk plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.console import note, print_json, stdout
from llama4sdk.cli.options import JsonFlag, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from llama4sdk.planning.plan import Plan, Rejection

__all__ = ["plan"]


def plan(
    *,
    hardware: Annotated[
        Path | None, typer.Option(help="Plan for the machine that 'doctor --json' described in this file.")
    ] = None,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Show what would run, where, and why. Loads nothing."""
    from llama4sdk.cli.clients import client_for
    from llama4sdk.errors import NoBackendError, PlanningError
    from llama4sdk.hardware import Hardware

    machine = Hardware.from_file(hardware) if hardware else None
    try:
        with client_for(target, hardware=machine) as client:
            decided = client.plan()
    except NoBackendError as error:
        if json or not error.rejections:
            raise
        _show_rejections(stdout(), error.rejections)
        raise PlanningError("Nothing can run this here; the table says why and what would help.") from error
    if json:
        print_json(decided.model_dump(mode="json"))
    else:
        _show(stdout(), decided)


def _show(console: Console, plan: Plan) -> None:
    from rich.table import Table

    from llama4sdk.text import gb

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    for decision in plan.decisions:
        table.add_row(decision.what, decision.value, decision.reason)
    for device, size in plan.memory.items():
        table.add_row("memory", gb(size), f"on {device}, cache and workspace included")
    if plan.tokens_per_second:
        table.add_row("speed", f"{plan.tokens_per_second:.0f} tokens/s", "predicted")
    console.print(table)
    if plan.rejections:
        console.print("\n[bold]What was turned down[/]")
        _show_rejections(console, plan.rejections)
    if plan.notice:
        note("\n" + plan.notice)


def _show_rejections(console: Console, rejections: Sequence[Rejection]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for rejection in rejections:
        reason = Text(rejection.reason)
        if rejection.fix:
            reason.append(f"\n→ {rejection.fix}", style="green")
        table.add_row(rejection.model or "any model", rejection.backend, reason)
    console.print(table)
