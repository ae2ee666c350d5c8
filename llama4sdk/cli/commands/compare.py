"""``llama4sdk plan --compare``: every engine and precision side by side, on one machine or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from llama4sdk.cli.console import note, print_json, show
from llama4sdk.cli.views.plan_tables import speed, where

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    from pydantic import JsonValue
    from rich.console import RenderableType
    from rich.table import Table

    from llama4sdk.capacity.candidates import Candidate
    from llama4sdk.capacity.model_facts import ModelFacts
    from llama4sdk.capacity.remedies import Concession
    from llama4sdk.cli.options import Target
    from llama4sdk.hardware import Hardware
    from llama4sdk.plan import Preference

    Row: TypeAlias = tuple[Candidate, Sequence[Concession]]

__all__ = ["compare"]

HEADINGS: Final = ("model", "engine", "weights", "where", "context", "tokens/s", "")

LEAST: Final = 24
"""Columns that what is lacking needs beside the rest, to be read."""


def compare(
    machines: Mapping[str, Hardware],
    target: Target,
    *,
    batch: int,
    best: bool = False,
    json: bool,
    plot: Path | None = None,
) -> None:
    """One row for each model, engine and precision, or for each model: the best layout there is, or what it lacks."""
    from datetime import date

    from llama4sdk.capacity.candidates import best_of_each, candidates
    from llama4sdk.cli.views import prices

    context, models = target.context_length, _models(target.model, target.prefer)
    found = {
        name: best_of_each(list(candidates(models, machine, context=context, batch=batch)), target.prefer)
        for name, machine in machines.items()
    }
    if plot is not None:
        _draw(plot, found, models, target.prefer)
    if best:
        found = {name: list(_best(rows, models, target.prefer)) for name, rows in found.items()}
    shown = {name: list(_with_concessions(rows, models, machines[name])) for name, rows in found.items()}
    offered = prices.offered([model.name for model in models], date.today())
    if json:
        described: dict[str, JsonValue] = {name: [_described(*row) for row in rows] for name, rows in shown.items()}
        print_json({**described, "remote": [price.model_dump(mode="json") for price in offered]})
    elif best:
        show(_fitted(shown), "", _legend(batch))
    else:
        rents = prices.rents(machines, found)
        show(*_pieces(shown, batch), *rents, "", *prices.pieces(offered, date.today(), context=context))


def _with_concessions(rows: Sequence[Candidate], models: Sequence[ModelFacts], machine: Hardware) -> Iterator[Row]:
    from llama4sdk.capacity.engine_profiles import find_engine
    from llama4sdk.capacity.remedies import concessions, on_a_mac_s_gpu

    known = {model.name: model for model in models}
    for row in rows:
        layout = row.layout
        about = known[layout.model], find_engine(layout.engine), machine, layout
        yield row, concessions(*about) or on_a_mac_s_gpu(*about)


def _described(row: Candidate, given: Sequence[Concession]) -> dict[str, JsonValue]:
    return {**row.model_dump(mode="json"), "concessions": [concession.model_dump(mode="json") for concession in given]}


def _best(rows: Sequence[Candidate], models: Sequence[ModelFacts], prefer: Preference) -> Iterator[Candidate]:
    """The first choice of each model, or what lacks least."""
    from llama4sdk.capacity.candidates import best_or_nearest

    for model in models:
        yield best_or_nearest([row for row in rows if row.layout.model == model.name], prefer)


def _models(name: str | None, prefer: Preference) -> list[ModelFacts]:
    from llama4sdk.catalog import models as catalog
    from llama4sdk.cli.model_argument import models_in_question
    from llama4sdk.errors import UnknownModelError

    found = models_in_question(name, prefer)
    if not found:
        if name and (spec := catalog.find(name)) and not spec.released:
            raise catalog.unreleased(spec, name)
        raise UnknownModelError(
            f"'{name}' cannot be compared.", hint="Choose 'scout', 'maverick', 'demo' or a checkpoint on this machine."
        )
    return found


def _draw(
    path: Path, found: Mapping[str, Sequence[Candidate]], models: Sequence[ModelFacts], prefer: Preference
) -> None:
    """The best three of the machine's engines, for the model that is wanted first."""
    from llama4sdk.capacity.candidates import rank
    from llama4sdk.cli.views.plot import plot
    from llama4sdk.errors import ConfigurationError

    if len(found) > 1:
        raise ConfigurationError("A picture is of one machine.", hint="Name one --gpus, or leave --plot out.")
    (rows,) = found.values()
    for model in models:
        ranked = rank([row for row in rows if row.layout.model == model.name], prefer)
        best = list({row.layout.engine: row.layout for row in reversed(ranked)}.values())[::-1]
        if best:
            plot(path, best, model)
            note(f"Drew {path}.")
            return
    raise ConfigurationError("Nothing fits this machine, so there is nothing to draw.", hint="Leave --plot out.")


def _pieces(found: Mapping[str, Sequence[Row]], batch: int) -> Iterator[RenderableType]:
    from rich.text import Text

    for name, rows in found.items():
        yield Text(name, style="bold")
        yield _fitted({"": rows})
        yield ""
    yield _legend(batch)


def _fitted(found: Mapping[str, Sequence[Row]]) -> RenderableType:
    """The table; on narrow terminals each machine's name, where it has one, stands above its rows."""
    from llama4sdk.cli.views.responsive_table import Fitted

    named = any(found)
    rows: list[tuple[Sequence[str], str | None]] = []
    for name, own in found.items():
        for number, (row, given) in enumerate(own):
            machine = [name if number == 0 else ""] if named else []
            rows.append(((*machine, *_cells(row, given)), None if row.layout.usable else "dim"))
    headings, numbers = ("machine", *HEADINGS) if named else HEADINGS, (4 + named, 5 + named)
    return Fitted(_table(found), rows, headings=headings, right=numbers, least=LEAST, named=named)


def _legend(batch: int) -> RenderableType:
    from rich.text import Text

    several = f" Context is that of each of {batch} requests, tokens/s that of all together." if batch > 1 else ""
    told = "Tokens a second are modelled, those with ~ guessed; weights and caches are exact."
    return Text(told + several, style="dim")


def _table(found: Mapping[str, Sequence[Row]]) -> Table:
    """Rows of all machines, each machine's name once; no column for it where it has none."""
    from rich.table import Table

    named = any(found)
    table = Table(box=None, pad_edge=False, header_style="dim")
    if named:
        table.add_column("machine", no_wrap=True)
    table.add_column("model", no_wrap=True, max_width=20)
    for heading in HEADINGS[1:4]:
        table.add_column(heading, no_wrap=True)
    for heading in HEADINGS[4:6]:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for name, rows in found.items():
        for number, (row, given) in enumerate(rows):
            machine = [name if number == 0 else ""] if named else []
            table.add_row(*machine, *_cells(row, given), style=None if row.layout.usable else "dim")
    return table


def _cells(row: Candidate, given: Sequence[Concession]) -> tuple[str, ...]:
    """With the cheapest remedy where it cannot run."""
    layout = row.layout
    context, tokens = (f"{layout.context:,}", speed(row)) if layout.usable else ("", "")
    verdict = f"{layout.verdict}: {given[0].text}" if given and given[0].layout else layout.verdict
    return Path(layout.model).name, layout.engine, layout.precision, where(layout), context, tokens, verdict
