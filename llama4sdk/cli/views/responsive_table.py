"""Tables on narrow terminals: the last column, which explains, moves below the others before anything is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.table import Table

__all__ = ["Fitted"]

GAP: Final = 2
INDENT: Final = 4


class Fitted:
    """``table`` where its columns and ``least`` of the last one's width find room; its ``rows`` line by line elsewhere.

    A row is its cells, the last of which explains, and a style. Columns named in ``right`` are set to the right. Line
    by line, what stands in the first of ``named`` columns becomes a line above its rows.
    """

    def __init__(
        self,
        table: Table,
        rows: Sequence[tuple[Sequence[str], str | None]],
        *,
        headings: Sequence[str] = (),
        right: Sequence[int] = (),
        least: int | None = None,
        named: bool = False,
    ) -> None:
        self.table = table
        self.rows = rows
        self.headings = headings
        self.right = right
        self.least = least
        self.named = named

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        rows = [*([(self.headings, "dim")] if self.headings else []), *self.rows]
        widths = [max(map(cell_len, column)) for column in zip(*(cells[:-1] for cells, _ in rows), strict=True)]
        words = [word for cells, _ in self.rows for word in cells[-1].split()]
        least = max(map(cell_len, words), default=0) if self.least is None else self.least
        if sum(widths) + GAP * len(widths) + least <= options.max_width:
            yield self.table
            return
        for number, (cells, style) in enumerate(rows):
            if self.named and cells[0] and not (self.headings and number == 0):
                yield Text(cells[0], style="bold")
            yield from self._lines(cells, style or "", widths, console, options.max_width)

    def _lines(
        self, cells: Sequence[str], style: str, widths: Sequence[int], console: Console, width: int
    ) -> Iterator[Text]:
        """The cells, and behind or below them in words what explains."""
        padded = [
            cell.rjust(size) if number in self.right else cell.ljust(size)
            for number, (cell, size) in enumerate(zip(cells[:-1], widths, strict=True))
        ][self.named :]
        while padded and not padded[-1].strip():
            padded.pop()
        line, note = (" " * GAP).join(padded), cells[-1]
        if cell_len(line) + GAP + cell_len(note) <= width:
            yield Text(f"{line}{' ' * GAP}{note}".rstrip(), style=style)
            return
        yield Text(line.rstrip(), style=style)
        for part in Text(note, style=style).wrap(console, max(1, width - INDENT)):
            part.pad_left(INDENT)
            yield part
