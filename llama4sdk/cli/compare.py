"""``llama4sdk plan --compare``: every engine and precision side by side, on one machine or several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llama4sdk.cli.console import print_json, show

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import TypeAlias

    from pydantic import JsonValue
    from rich.console import RenderableType
    from rich.table import Table

    from llama4sdk.hardware import Hardware
    from llama4sdk.planning.candidates import Candidate
    from llama4sdk.planning.concessions import Concession
    from llama4sdk.planning.engines import LayoutKind
    from llama4sdk.planning.layouts import Model

    Row: TypeAlias = tuple[Candidate, Sequence[Concession]]

__all__ = ["compare"]

WHERE: Final[dict[LayoutKind, str]] = {
    "single": "one device",
    "tensor": "split over",
    "pipeline": "stages over",
    "expert": "experts over",
    "layers": "layers over",
    "offload": "experts in RAM",
    "cpu": "RAM",
    "disk": "experts on disk",
}


def compare(
    machines: Mapping[str, Hardware | None], *, model: str | None, context: int | None, batch: int, json: bool
) -> None:
    """One row for each model, engine and precision: the best layout there is, or what it lacks."""
    from datetime import date

    from llama4sdk.cli import remote
    from llama4sdk.probe import probe

    models = {known.name: known for known in _models(model)}
    found = {
        name: list(_rows(models, machine or probe(), context=context, batch=batch))
        for name, machine in machines.items()
    }
    offered = remote.offered(models, date.today())
    if json:
        described: dict[str, JsonValue] = {name: [_described(*row) for row in rows] for name, rows in found.items()}
        print_json({**described, "remote": [price.model_dump(mode="json") for price in offered]})
    else:
        rents = remote.rents(machines, {name: [row for row, _ in rows] for name, rows in found.items()})
        show(*_pieces(found), *rents, "", *remote.pieces(offered, date.today(), context=context))


def _rows(models: Mapping[str, Model], machine: Hardware, *, context: int | None, batch: int) -> Iterator[Row]:
    from llama4sdk.planning.candidates import best_of_each, candidates
    from llama4sdk.planning.concessions import concessions
    from llama4sdk.planning.engines import find_engine

    for best in best_of_each(list(candidates(list(models.values()), machine, context=context, batch=batch))):
        layout = best.layout
        yield best, concessions(models[layout.model], find_engine(layout.engine), machine, layout)


def _described(row: Candidate, given: Sequence[Concession]) -> dict[str, JsonValue]:
    return {**row.model_dump(mode="json"), "concessions": [concession.model_dump(mode="json") for concession in given]}


def _models(name: str | None) -> list[Model]:
    from llama4sdk import catalog
    from llama4sdk.errors import UnknownModelError
    from llama4sdk.planning.layouts import Model

    spec = catalog.find(name) if name else None
    if name and (spec is None or spec.config is None):
        raise UnknownModelError(f"'{name}' cannot be compared.", hint="Choose 'scout', 'maverick' or 'demo'.")
    chosen = [spec] if spec else [catalog.SCOUT, catalog.MAVERICK]
    return [
        Model(name=s.name, config=s.config, vision_parameters=s.vision_parameters)
        for s in chosen
        if s.config is not None
    ]


def _pieces(found: Mapping[str, Sequence[Row]]) -> Iterator[RenderableType]:
    from rich.text import Text

    for name, rows in found.items():
        yield Text(name, style="bold")
        yield _table(rows)
        yield ""
    yield Text("Tokens a second are modelled, those with ~ guessed; weights and caches are exact.", style="dim")


def _table(rows: Sequence[Row]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("model", "engine", "weights", "where"):
        table.add_column(heading, no_wrap=True)
    for heading in ("context", "tokens/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for row, given in rows:
        layout = row.layout
        count = f" {len(layout.devices)}" if layout.kind in ("tensor", "pipeline", "expert", "layers") else ""
        table.add_row(
            layout.model,
            layout.engine,
            layout.precision,
            WHERE[layout.kind] + count,
            f"{layout.context:,}" if layout.usable else "",
            _speed(row) if layout.usable else "",
            _verdict(row, given),
            style=None if layout.usable else "dim",
        )
    return table


def _verdict(row: Candidate, given: Sequence[Concession]) -> str:
    """With the cheapest remedy where it cannot run."""
    verdict = row.layout.verdict
    return f"{verdict}: {given[0].text}" if given and given[0].layout else verdict


def _speed(row: Candidate) -> str:
    if row.decode is None:
        return "?"
    return f"{'~' if row.label == 'guessed' else ''}{_short(row.decode.low)}-{_short(row.decode.high)}"


def _short(number: float) -> str:
    """Two digits that mean something."""
    return f"{number:.2g}" if number < 1 else f"{number:.1f}" if number < 10 else f"{number:,.0f}"
