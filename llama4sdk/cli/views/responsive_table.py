"""Tables that lose nothing on a narrow terminal: columns that find no room go below the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

#: Blanks between columns, and whether prose goes below: the first form that is narrow enough for the terminal is taken.
PROSE_FORMS: Final = ((2, False), (2, True), (1, True))
PLAIN_FORMS: Final = ((2, False), (1, False))
INDENT: Final = 2
#: Columns of the terminal that prose needs beside the other cells, to be readable.
MIN_PROSE_WIDTH: Final = 24

#: Cells and a style.
Row: TypeAlias = tuple[Sequence[Text], str]


@dataclass(frozen=True)
class Column:
    """How the cells of a column are set."""

    heading: str = ""
    style: str = ""
    right: bool = False


class ResponsiveTable:
    """Rows of cells, in the first of three forms that the terminal is wide enough for.

    1. Side by side. With ``prose`` the last column is wrapped into the room that is left.
    2. With ``prose``: the other columns side by side, the last one below them where it finds no room.
    3. The first cell as a title, below it the others, each behind its heading.

    Args:
        columns: One for each cell of a row.
        prose: The last column holds sentences.
        grouped: Equal cells of the first column are shown once; in the narrow forms as a title above their rows.

    """

    def __init__(self, *columns: Column, prose: bool = False, grouped: bool = False) -> None:
        self._columns = columns
        self._prose = prose
        self._grouped = grouped
        self._rows: list[Row] = []

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Append a row; ``style`` applies to all of it."""
        texts = [
            Text(cell, style=column.style) if isinstance(cell, str) else cell
            for cell, column in zip(cells, self._columns, strict=True)
        ]
        self._rows.append((texts, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width, widths = options.max_width, self._widths()
        for gap, below in PROSE_FORMS if self._prose else PLAIN_FORMS:
            if self._width(widths, gap, below=below) <= width:
                yield from self._aligned(console, width, widths, gap, below=below)
                return
        yield from self._listed(console, width)

    def _widths(self) -> list[int]:
        """Terminal columns of each column's longest cell."""
        headings = [Text(column.heading) for column in self._columns]
        rows = [headings, *(cells for cells, _ in self._rows)]
        return [max(cell.cell_len for cell in column) for column in zip(*rows, strict=True)]

    def _width(self, widths: Sequence[int], gap: int, *, below: bool) -> int:
        """Terminal columns that a form needs. Prose needs no more than is readable, but breaks no word."""
        needed = list(widths)
        if self._prose:
            words = [cell_len(word) for cells, _ in self._rows for word in cells[-1].plain.split()]
            needed[-1] = min(widths[-1], max(MIN_PROSE_WIDTH, *words, 0))
        shown = needed[self._grouped : -1] if below else needed
        return sum(shown) + gap * (len(shown) - 1)

    def _aligned(self, console: Console, width: int, widths: Sequence[int], gap: int, *, below: bool) -> Iterator[Text]:
        """Rows of cells side by side. ``below``: groups have titles, and prose may stand below its row."""
        inner = slice(self._grouped if below else 0, -1 if self._prose else None)
        columns, widths = self._columns[inner.start : -1 if below else None], widths[inner.start :]
        if any(column.heading for column in columns):
            yield _line([Text(column.heading) for column in columns], columns, widths, gap, "dim")
        for title, rows in groupby(self._rows, _title):
            if self._grouped and below:
                yield Text(title, style="bold")
            for number, (cells, style) in enumerate(rows):
                row = list(cells[inner])
                if self._grouped and not below and number:
                    row[0] = Text()
                line = _line(row, columns, widths, gap, style)
                if not self._prose:
                    yield line
                    continue
                filled = max((n for n, cell in enumerate(row, 1) if cell.plain), default=0) if below else len(row)
                start = sum(widths[:filled]) + gap * filled
                yield from _with_prose(line, start, cells[-1], width, console, below=below)

    def _listed(self, console: Console, width: int) -> Iterator[Text]:
        """The first cell of each row as a title, below it the others behind their headings."""
        headings = [column.heading for column in self._columns]
        inner, separator = slice(1, -1 if self._prose else None), ", " if any(headings) else "  "
        for title, rows in groupby(self._rows, _title):
            yield Text(title, style="bold")
            for cells, style in rows:
                named = zip(headings[inner], cells[inner], strict=True)
                body = Text(separator).join(
                    Text.assemble((f"{heading} " if heading else "", "dim"), cell)
                    for heading, cell in named
                    if cell.plain
                )
                if body:
                    yield from _wrapped(Text(" " * INDENT, style=style), body, 2 * INDENT, width, console)
                if self._prose and cells[-1]:
                    yield from _wrapped(Text(" " * 2 * INDENT, style=style), cells[-1], 2 * INDENT, width, console)


def number_columns(*headings: str) -> list[Column]:
    """Columns whose cells end at the same place."""
    return [Column(heading, right=True) for heading in headings]


def key_value_table(pairs: Iterable[tuple[str, str | Text]]) -> ResponsiveTable:
    """A table of names in bold, and what is said of each."""
    table = ResponsiveTable(Column(style="bold"), Column(), prose=True)
    for name, value in pairs:
        table.add_row(name, value)
    return table


def _title(row: Row) -> str:
    return row[0][0].plain


def _line(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int], gap: int, style: str) -> Text:
    """The cells side by side, each as wide as its column."""
    line = Text(style=style)
    for number, cell in enumerate(cells):
        padded = cell.copy()
        padded.align("right" if columns[number].right else "left", widths[number])
        line.append(" " * gap if number else "").append_text(padded)
    line.rstrip()
    return line


def _with_prose(line: Text, start: int, prose: Text, width: int, console: Console, *, below: bool) -> Iterator[Text]:
    """The line with the prose from column ``start`` on, or where that is too long and ``below`` is set, below it."""
    if below and ("\n" in prose.plain or start + prose.cell_len > width):
        yield line
        yield from _wrapped(Text(" " * 2 * INDENT, style=line.style), prose, 2 * INDENT, width, console)
    else:
        line.pad_right(start - line.cell_len)
        yield from _wrapped(line, prose, start, width, console)


def _wrapped(lead: Text, text: Text, indent: int, width: int, console: Console) -> Iterator[Text]:
    """The text behind ``lead``, and what finds no room there in further lines, indented."""
    for part in text.wrap(console, max(1, width - indent)) or [Text()]:
        line = lead.append_text(part)
        line.rstrip()
        yield line
        lead = Text(" " * indent, style=lead.style)
