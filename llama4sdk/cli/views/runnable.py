"""How the doctor shows what a machine can run: few words, and no line wider than 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from llama4sdk._text import gb

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table
    from rich.text import Text

    from llama4sdk.diagnostics.runnable import Outlook

__all__ = ["outlook_pieces"]

ROOMS: Final = {"cpu": "RAM", "disk": "disk"}
"""What the places of a layout are called; all others are GPUs."""


ROOMY: Final = 96
"""Columns from which on a table need not be dense."""


def outlook_pieces(rows: Sequence[Outlook]) -> Iterator[RenderableType]:
    """The table, and what its signs mean."""
    from rich.padding import Padding
    from rich.text import Text

    yield Padding(_Rows(rows), (0, 0, 0, 2))
    for line in _legend(rows):
        yield Padding(Text(line, style="dim"), (0, 0, 0, 2))


class _Rows:
    """The table, set wider where there is room."""

    def __init__(self, rows: Sequence[Outlook]) -> None:
        self.rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        yield _table(self.rows, gap=3 if options.max_width >= ROOMY else 1)


def _table(rows: Sequence[Outlook], *, gap: int) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, gap, 0, 0), header_style="dim")
    table.add_column("model", no_wrap=True, style="bold")
    table.add_column("bits", justify="right", no_wrap=True)
    table.add_column("with", no_wrap=True)
    table.add_column("where", no_wrap=True)
    for heading in ("context", "tokens/s", "download", "takes"):
        table.add_column(heading, justify="right", no_wrap=True)
    before = None
    for row in rows:
        name = row.model if row.model != before else ""
        before = row.model
        table.add_row(
            name,
            _bits(row),
            row.engine + ("" if row.installed else "*") if row.fits else "",
            _where(row),
            _context(row) if row.fits else "",
            _speed(row) if row.fits else "",
            *_download(row),
            style=None if row.fits else "dim",
        )
    return table


def _bits(row: Outlook) -> str:
    return str(row.bits) if row.bits != 2 else "2-3"


def _where(row: Outlook) -> str:
    """``8 GPUs``, or what is missing: ``lacks 39 GB RAM``."""
    if row.fits:
        return {"offload": "GPU + RAM", "cpu": "RAM", "disk": "RAM + disk"}.get(row.kind) or _gpus(row)
    if row.at is None:
        return row.verdict
    return f"lacks {_gb(row.lacks)} {ROOMS.get(row.at, 'GPU')}"


def _gpus(row: Outlook) -> str:
    count = len(row.devices)
    return f"{count} GPUs" if count > 1 else "1 GPU"


def _context(row: Outlook) -> str:
    """``10M``, ``392K``, ``8K+``: rounded down, in thousands of tokens as models are sold."""
    tokens = row.context
    more = "+" if row.kind in ("offload", "disk") else ""
    if tokens >= 10**6:
        return f"{tokens // 10**5 / 10:g}M{more}"
    return f"{tokens // 1000}K{more}" if tokens >= 1000 else f"{tokens}{more}"


def _speed(row: Outlook) -> str:
    if row.decode is None:
        return "?"
    return f"{'~' if row.label == 'guessed' else ''}{_short(row.decode.low)}-{_short(row.decode.high)}"


def _short(number: float) -> str:
    return f"{number:.1g}" if number < 1 else f"{number:.0f}"


def _download(row: Outlook) -> tuple[Text | str, str]:
    from rich.text import Text

    if row.here:
        return Text("here", style="green"), ""
    if row.disk_fits is False:
        return Text(f"{_gb(row.download)}!", style="yellow"), _duration(row.download_seconds)
    return _gb(row.download), _duration(row.download_seconds)


def _gb(size: int) -> str:
    return f"{size / 1e9:,.0f} GB" if size >= 1e10 else gb(size)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _legend(rows: Sequence[Outlook]) -> Iterator[str]:
    from llama4sdk.diagnostics.runnable import LINK_SPEED

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
    known = "assumed" if round(rate) == LINK_SPEED else "as the last download went"
    yield f"tokens/s: one answer, predicted{guessed}; takes: at {rate / 1e6:.0f} MB/s, {known}"
