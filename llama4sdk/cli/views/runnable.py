"""The doctor's table of models that a machine can run, within 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.padding import Padding
from rich.text import Text

from llama4sdk._text import gb
from llama4sdk.cli.views.number_format import format_duration, format_speed, format_tokens
from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, number_columns
from llama4sdk.diagnostics.runnable import LINK_SPEED, RunnableModel

#: Names of memory other than a GPU's.
MEMORY_NAMES: Final = {"cpu": "RAM", "disk": "disk"}


def runnable_pieces(rows: Sequence[RunnableModel]) -> Iterator[RenderableType]:
    """The table, and the meaning of its signs."""
    yield Padding(_table(rows), (0, 0, 0, 2))
    for line in _legend(rows):
        yield Padding(Text(line, style="dim"), (0, 0, 0, 2))


def _table(rows: Sequence[RunnableModel]) -> ResponsiveTable:
    layout_columns = *number_columns("bits"), Column("with"), Column("where"), *number_columns("context", "tokens/s")
    columns = Column("model", style="bold"), *layout_columns, *number_columns("download", "takes")
    table = ResponsiveTable(*columns, grouped=True)
    for row in rows:
        if row.fits:
            speed = format_speed(row.decode, guessed=row.label == "guessed")
            layout = row.engine + ("" if row.installed else "*"), _where(row), _context(row), speed
        else:
            layout = "", _lack(row), "", ""
        table.add_row(
            row.model,
            str(row.bits) if row.bits != 2 else "2-3",
            *layout,
            _download(row),
            "" if row.here else format_duration(row.download_seconds),
            style="" if row.fits else "dim",
        )
    return table


def _where(row: RunnableModel) -> str:
    """The memory that the model lies in: ``8 GPUs``, ``GPU + RAM``."""
    gpus = f"{len(row.devices)} GPUs" if len(row.devices) > 1 else "1 GPU"
    return {"offload": "GPU + RAM", "cpu": "RAM", "disk": "RAM + disk"}.get(row.kind, gpus)


def _lack(row: RunnableModel) -> str:
    """The reason why it does not fit: ``lacks 39 GB RAM``."""
    return row.verdict if row.at is None else f"lacks {_gb(row.lacks)} {MEMORY_NAMES.get(row.at, 'GPU')}"


def _context(row: RunnableModel) -> str:
    """Tokens in thousands, as models are sold: ``10M``, ``392K``, ``8K+``."""
    return format_tokens(row.context) + ("+" if row.kind in ("offload", "disk") else "")


def _download(row: RunnableModel) -> Text | str:
    if row.here:
        return Text("here", style="green")
    return Text(f"{_gb(row.download)}!", style="yellow") if row.disk_fits is False else _gb(row.download)


def _gb(size: int) -> str:
    """Whole gigabytes, where there are many."""
    return f"{size / 1e9:,.0f} GB" if size >= 1e10 else gb(size)


def _legend(rows: Sequence[RunnableModel]) -> Iterator[str]:
    if missing := {row.engine: row.install for row in rows if row.fits and not row.installed}:
        yield "* not installed: " + "; ".join(f"{engine} ({install})" for engine, install in missing.items())
    if any(row.fits and row.kind in ("offload", "disk") for row in rows):
        yield "+ longer contexts fit as well, and are slower"
    if any(row.fits and row.kind == "disk" and row.decode is None for row in rows):
        yield "? depends on the disk, which 'llama4sdk doctor --bench' measures"
    if any(row.disk_fits is False for row in rows):
        yield "! more than the disk has free"
    guessed = " (~ guessed)" if any(row.fits and row.decode and row.label == "guessed" for row in rows) else ""
    rate = rows[0].download / rows[0].download_seconds
    basis = "assumed" if round(rate) == LINK_SPEED else "as the last download went"
    yield f"tokens/s: one answer, predicted{guessed}; takes: at {rate / 1e6:.0f} MB/s, {basis}"
