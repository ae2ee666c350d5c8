"""``llama4sdk plan --compare``: every engine and precision side by side, on one machine or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TypeAlias

from pydantic import JsonValue
from rich.console import RenderableType
from rich.text import Text

from llama4sdk.capacity.candidates import Candidate, best_of_each, best_or_nearest, candidates, rank
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.capacity.remedies import Remedy, find_remedies, mac_gpu_remedy
from llama4sdk.catalog import models as catalog
from llama4sdk.cli.console import note, print_json, show
from llama4sdk.cli.model_argument import models_in_question
from llama4sdk.cli.options import Target
from llama4sdk.cli.views import prices
from llama4sdk.cli.views.plan_tables import candidate_speed, placement
from llama4sdk.cli.views.plot import plot as draw_plot
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, number_columns
from llama4sdk.errors import ConfigurationError, UnknownModelError
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Preference

#: A layout, and what would make it fit.
Row: TypeAlias = tuple[Candidate, Sequence[Remedy]]


def show_comparison(
    machines: Mapping[str, Hardware], target: Target, *, batch: int, best: bool, json: bool, plot: Path | None
) -> None:
    """Print one row for each model, engine and precision, or with ``best`` for each model.

    A row is the best layout there is, or the one that lacks least.
    """
    context, models = target.context_length, _models(target.model, target.policy)
    layouts = {
        name: best_of_each(list(candidates(models, machine, context=context, batch=batch)), target.policy)
        for name, machine in machines.items()
    }
    if plot is not None:
        _draw(plot, layouts, models, target.policy)
    if best:
        layouts = {name: _best(rows, models, target.policy) for name, rows in layouts.items()}
    rows = {name: list(_with_remedies(own, models, machines[name])) for name, own in layouts.items()}
    listings = prices.priced_listings([model.name for model in models], date.today())
    if json:
        documents: dict[str, JsonValue] = {name: [_document(*row) for row in own] for name, own in rows.items()}
        print_json({**documents, "remote": [listing.model_dump(mode="json") for listing in listings]})
    elif best:
        show(_table(rows, named=True), "", _legend(batch))
    else:
        rents = prices.describe_rents(machines, layouts)
        endpoints = prices.endpoint_pieces(listings, date.today(), context=context)
        show(*_pieces(rows, batch), *rents, "", *endpoints)


def _with_remedies(rows: Sequence[Candidate], models: Sequence[ModelFacts], machine: Hardware) -> Iterator[Row]:
    models_by_name = {model.name: model for model in models}
    for row in rows:
        arguments = models_by_name[row.layout.model], find_engine(row.layout.engine), machine, row.layout
        yield row, find_remedies(*arguments) or mac_gpu_remedy(*arguments)


def _document(row: Candidate, remedies: Sequence[Remedy]) -> dict[str, JsonValue]:
    return {**row.model_dump(mode="json"), "concessions": [remedy.model_dump(mode="json") for remedy in remedies]}


def _best(rows: Sequence[Candidate], models: Sequence[ModelFacts], prefer: Preference) -> list[Candidate]:
    """The first choice of each model, or the layout that lacks least."""
    return [best_or_nearest([row for row in rows if row.layout.model == model.name], prefer) for model in models]


def _models(name: str | None, prefer: Preference) -> list[ModelFacts]:
    """The models to compare. Raises UnknownModelError for one that nothing is known of."""
    models = models_in_question(name, prefer)
    if not models:
        if name and (spec := catalog.find(name)) and not spec.released:
            raise catalog.unreleased(spec, name)
        raise UnknownModelError(
            f"'{name}' cannot be compared.", hint="Choose 'scout', 'maverick', 'demo' or a checkpoint on this machine."
        )
    return models


def _draw(
    path: Path, layouts: Mapping[str, Sequence[Candidate]], models: Sequence[ModelFacts], prefer: Preference
) -> None:
    """Draw each engine's best layout for the first model that fits the machine. Raises ConfigurationError."""
    if len(layouts) > 1:
        raise ConfigurationError("A picture is of one machine.", hint="Name one --gpus, or leave --plot out.")
    (rows,) = layouts.values()
    for model in models:
        ranked = rank([row for row in rows if row.layout.model == model.name], prefer)
        best = list({row.layout.engine: row.layout for row in reversed(ranked)}.values())[::-1]
        if best:
            draw_plot(path, best, model)
            note(f"Drew {path}.")
            return
    raise ConfigurationError("Nothing fits this machine, so there is nothing to draw.", hint="Leave --plot out.")


def _pieces(rows: Mapping[str, Sequence[Row]], batch: int) -> Iterator[RenderableType]:
    for name, own in rows.items():
        yield Text(name, style="bold")
        yield _table({name: own}, named=False)
        yield ""
    yield _legend(batch)


def _legend(batch: int) -> RenderableType:
    several = f" Context is that of each of {batch} requests, tokens/s that of all together." if batch > 1 else ""
    legend = "Tokens a second are modelled, those with ~ guessed; weights and caches are exact."
    return Text(legend + several, style="dim")


def _table(rows: Mapping[str, Sequence[Row]], *, named: bool) -> ResponsiveTable:
    """Rows of several machines; ``named`` adds a column with each machine's name."""
    headings = *(("machine",) if named else ()), "model", "engine", "weights", "where"
    columns = *map(Column, headings), *number_columns("context", "tokens/s"), Column()
    table = ResponsiveTable(*columns, prose=True, grouped=named)
    for name, own in rows.items():
        for row, remedies in own:
            cells = *((name,) if named else ()), *_cells(row, remedies)
            table.add_row(*cells, style="" if row.layout.usable else "dim")
    return table


def _cells(row: Candidate, remedies: Sequence[Remedy]) -> tuple[str, ...]:
    """The layout, and its verdict with the cheapest remedy where it cannot run."""
    layout = row.layout
    context, tokens = (f"{layout.context:,}", candidate_speed(row)) if layout.usable else ("", "")
    verdict = f"{layout.verdict}: {remedies[0].text}" if remedies and remedies[0].layout else layout.verdict
    return Path(layout.model).name, layout.engine, layout.precision, placement(layout), context, tokens, verdict
