"""``llama4sdk plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.console import print_json, show
from llama4sdk.cli.options import JsonFlag, Target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from llama4sdk.hardware import Hardware
    from llama4sdk.planning.plan import Plan, Rejection

__all__ = ["plan"]


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
    batch: Annotated[int, typer.Option(help="With --compare: requests at once.", min=1)] = 1,
    scorecard: Annotated[
        bool, typer.Option("--scorecard", help="Show what has been published of Llama 4 beside what is predicted.")
    ] = False,
    json: JsonFlag = False,
    target: Target,
) -> None:
    """Show what would run, where, and why. Loads nothing."""
    if scorecard:
        from llama4sdk.cli.scorecard import scorecard as show_scorecard

        show_scorecard(json=json)
        return
    from llama4sdk.cli.clients import client_for
    from llama4sdk.errors import NoBackendError, PlanningError

    machines = _machines(hardware, gpus, ram)
    if compare:
        from llama4sdk.cli.compare import compare as show_comparison

        show_comparison(machines, model=target.model, context=target.context_length, batch=batch, json=json)
        return
    machine = _one(machines)
    try:
        with client_for(target, hardware=machine) as client:
            decided = client.plan()
    except NoBackendError as error:
        if json or not error.rejections:
            raise
        show(_rejections(error.rejections))
        raise PlanningError("Nothing can run this here; the table says why and what would help.") from error
    if json:
        print_json(decided.model_dump(mode="json"))
    else:
        show(*_pieces(decided))


def _machines(file: Path | None, gpus: list[str] | None, ram: str | None) -> dict[str, Hardware | None]:
    """By a name for people: the one that was saved, those that are imagined, or ``None`` for this one."""
    from llama4sdk.errors import ConfigurationError
    from llama4sdk.hardware import Hardware
    from llama4sdk.planning.accelerators import describe, parse_size

    if gpus is None and ram is None:
        return {str(file): Hardware.from_file(file)} if file else {"this machine": None}
    if file is not None:
        raise ConfigurationError(
            "A machine is read from a file or imagined, not both.", hint="Drop one of the options."
        )
    memory = parse_size(ram) if ram else None
    return {f"{name}, {ram} RAM" if ram else name: describe(name, ram=memory) for name in gpus or ["none"]}


def _one(machines: Mapping[str, Hardware | None]) -> Hardware | None:
    from llama4sdk.errors import ConfigurationError

    if len(machines) > 1:
        raise ConfigurationError("A plan is for one machine.", hint="Add --compare to see several side by side.")
    return next(iter(machines.values()))


def _pieces(plan: Plan) -> Iterator[RenderableType]:
    from rich.text import Text

    yield _decisions(plan)
    if plan.rejections:
        yield Text("\nWhat was turned down", style="bold")
        yield _rejections(plan.rejections)
    if plan.notice:
        yield Text("\n" + plan.notice, style="dim")


def _decisions(plan: Plan) -> Table:
    from llama4sdk.text import gb

    table = _grid()
    for decision in plan.decisions:
        table.add_row(decision.what, decision.value, decision.reason)
    if plan.weight_bytes is not None:
        table.add_row("weights", gb(plan.weight_bytes), "in memory")
    for device, size in plan.memory.items():
        table.add_row("memory", gb(size), f"on {device}, cache and workspace included")
    if plan.tokens_per_second:
        table.add_row("speed", f"about {plan.tokens_per_second:.2g} tokens/s", "modelled")
    return table


def _rejections(rejections: Sequence[Rejection]) -> Table:
    from rich.text import Text

    table = _grid()
    for rejection in rejections:
        reason = Text(rejection.reason)
        if rejection.fix:
            reason.append(f"\n→ {rejection.fix}", style="green")
        table.add_row(rejection.model or "any model", rejection.backend, reason)
    return table


def _grid() -> Table:
    """Three columns: what, which, why."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="cyan", overflow="fold")
    table.add_column(overflow="fold")
    return table
