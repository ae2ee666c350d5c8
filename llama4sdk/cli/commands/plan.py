"""``llama4sdk plan``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llama4sdk.cli.options import JsonFlag, Target
from llama4sdk.errors import ConfigurationError


def plan(
    *,
    hardware: Annotated[
        Path | None, typer.Option(help="Plan for the machine that 'doctor --json' described in this file.")
    ] = None,
    gpus: Annotated[
        list[str] | None,
        typer.Option(
            help="Plan for an imagined machine with these: 8xH100-80GB, rtx-4090, m3-max-64gb, none. "
            "With --compare, several times for several machines."
        ),
    ] = None,
    ram: Annotated[str | None, typer.Option(help="The imagined machine's memory, such as 64GB or 1TB.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show every engine and precision side by side, installed or not.")
    ] = False,
    best: Annotated[bool, typer.Option("--best", help="With --compare: only the best of each machine.")] = False,
    batch: Annotated[int, typer.Option(help="Conversations at once, each with the whole context.", min=1)] = 1,
    explain: Annotated[bool, typer.Option("--explain", help="Show the numbers behind the plan.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw memory by device, and context against memory, into this .svg or .png file."),
    ] = None,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Show what would run, where, and why. Loads nothing."""
    from llama4sdk.cli.commands.compare import show_comparison
    from llama4sdk.cli.commands.show_plan import show_plan
    from llama4sdk.cli.machine_argument import only_machine, read_machines
    from llama4sdk.cli.views.plot import check_plot_path

    _check_options(target, compare=compare, best=best, explain=explain)
    if plot is not None:
        check_plot_path(plot)
    machines = read_machines(hardware, gpus, ram)
    if compare:
        show_comparison(machines, target, batch=batch, best=best, json=json, plot=plot)
    else:
        imagined = bool(gpus or ram)
        show_plan(only_machine(machines), target, batch, imagined=imagined, explain=explain, plot=plot, json=json)


def _check_options(target: Target, *, compare: bool, best: bool, explain: bool) -> None:
    """Refuse options that would be ignored. Raises ConfigurationError."""
    if target.fallback:
        raise ConfigurationError(
            "A plan is for one backend.", hint="Leave --fallback out, and plan with each --backend."
        )
    if best and not compare:
        raise ConfigurationError("--best chooses among what --compare shows.", hint="Add --compare.")
    if not compare:
        return
    if explain:
        raise ConfigurationError("--explain is about one plan, not a comparison.", hint="Leave one of them out.")
    for name, value in (("--need", target.need), ("--language", target.language)):
        if value:
            raise ConfigurationError(
                f"{name} is for choosing; a comparison shows what memory and speed allow.",
                hint="Leave one of them out.",
            )
