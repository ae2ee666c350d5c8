"""Tables that lose nothing on a narrow terminal: columns that find no room go below the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

__all__ = ["Column", "ResponsiveTable", "key_value_table"]

#: Blanks between columns; the smaller one where the larger leaves too little room.
GAPS: Final = (2, 1)
INDENT: Final = 2
#: Columns of the terminal that prose needs beside the other cells, to be readable.
MIN_PROSE_WIDTH: Final = 24


@dataclass(frozen=True, kw_only=True)
class Column:
    """How the cells of a column are set."""

    heading: str = ""
    style: str = ""
    right: bool = False


class ResponsiveTable:
    """Rows of cells, in the first of three forms that the terminal is wide enough for.

    1. Side by side. With ``prose`` the last column is wrapped into the room that is left.
    2. With ``prose``: the other columns side by side, the last one below them.
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
        self._rows: list[_Row] = []

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """Append a row; ``style`` applies to all of it."""
        texts = [
            Text(cell, style=column.style) if isinstance(cell, str) else cell
            for cell, column in zip(cells, self._columns, strict=True)
        ]
        self._rows.append(_Row(texts, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width, widths = options.max_width, self._widths()
        inner = widths[self._inner]
        for gap in GAPS[:1] if self._prose else GAPS:
            if sum(widths[:-1]) + gap * (len(widths) - 1) + self._last_width(widths[-1]) <= width:
                yield from self._side_by_side(console, width, widths, gap)
                return
        for gap in GAPS if self._prose else ():
            if sum(inner) + gap * (len(inner) - 1) <= width:
                yield from self._prose_below(console, width, inner, gap)
                return
        yield from self._listed(console, width)

    @property
    def _inner(self) -> slice:
        """The columns that are neither a group's title nor prose."""
        return slice(1 if self._grouped else 0, len(self._columns) - self._prose)

    def _widths(self) -> list[int]:
        """Terminal columns of each column's longest cell."""
        cells = zip(*(row.cells for row in self._rows), strict=True)
        longest = [max(cell.cell_len for cell in column) for column in cells] or [0] * len(self._columns)
        return [max(length, len(column.heading)) for length, column in zip(longest, self._columns, strict=True)]

    def _last_width(self, natural: int) -> int:
        """Terminal columns that the last column needs; prose no more than is readable, and breaks no word."""
        if not self._prose:
            return natural
        words = [word for row in self._rows for word in row.cells[-1].plain.split()]
        return min(natural, max(MIN_PROSE_WIDTH, *map(cell_len, words), 0))

    def _headings(self) -> list[_Row]:
        if not any(column.heading for column in self._columns):
            return []
        return [_Row([Text(column.heading) for column in self._columns], "dim")]

    def _side_by_side(self, console: Console, width: int, widths: Sequence[int], gap: int) -> Iterator[Text]:
        title = None
        for row in (*self._headings(), *self._rows):
            cells = [Text(), *row.cells[1:]] if self._grouped and row.cells[0].plain == title else row.cells
            title = row.cells[0].plain
            if not self._prose:
                yield _line(cells, self._columns, widths, gap, row.style)
                continue
            line = _line(cells[:-1], self._columns, widths, gap, row.style)
            yield from _beside(line, sum(widths[:-1]) + gap * (len(widths) - 1), cells[-1], console, width)

    def _prose_below(self, console: Console, width: int, widths: Sequence[int], gap: int) -> Iterator[Text]:
        """The prose of a row stands beside its last cell where it is short enough, and below elsewhere."""
        columns = self._columns[self._inner]
        yield from (_line(row.cells[self._inner], columns, widths, gap, row.style) for row in self._headings())
        for row in self._titled():
            if isinstance(row, Text):
                yield row
                continue
            cells, prose = row.cells[self._inner], row.cells[-1]
            line = _line(cells, columns, widths, gap, row.style)
            filled = max((number for number, cell in enumerate(cells, 1) if cell.plain), default=0)
            start = sum(widths[:filled]) + gap * filled
            if "\n" not in prose.plain and start + prose.cell_len <= width:
                yield from _beside(line, start, prose, console, width)
            else:
                yield line
                yield from _indented(_wrapped(console, prose, width - 2 * INDENT, row.style), 2 * INDENT)

    def _listed(self, console: Console, width: int) -> Iterator[Text]:
        headings = [column.heading for column in self._columns]
        for row in self._titled(always=True):
            if isinstance(row, Text):
                yield row
                continue
            named = [(heading, cell) for heading, cell in zip(headings[1:], row.cells[1:], strict=True) if cell.plain]
            cells = [Text.assemble((f"{heading} " if heading else "", "dim"), cell) for heading, cell in named]
            body = Text(", " if any(headings) else "  ").join(cells[: -1 if self._prose else None])
            yield from _indented(_wrapped(console, body, width - 2 * INDENT, row.style), INDENT, then=2 * INDENT)
            if self._prose:
                yield from _indented(_wrapped(console, row.cells[-1], width - 2 * INDENT, row.style), 2 * INDENT)

    def _titled(self, *, always: bool = False) -> Iterator[_Row | Text]:
        """The rows, with each group's title before the first of it; ``always`` makes every first cell a title."""
        title = None
        for row in self._rows:
            if (self._grouped or always) and row.cells[0].plain != title:
                title = row.cells[0].plain
                yield Text(title, style="bold")
            yield row


@dataclass(frozen=True)
class _Row:
    cells: Sequence[Text]
    style: str


def key_value_table(pairs: Iterable[tuple[str, str | Text]]) -> ResponsiveTable:
    """Names in bold, and what is said of each."""
    table = ResponsiveTable(Column(style="bold"), Column(), prose=True)
    for name, value in pairs:
        table.add_row(name, value)
    return table


def _line(cells: Sequence[Text], columns: Sequence[Column], widths: Sequence[int], gap: int, style: str) -> Text:
    """The cells side by side, each as wide as its column."""
    line = Text(style=style)
    for number, cell in enumerate(cells):
        padded = cell.copy()
        padded.align("right" if columns[number].right else "left", widths[number])
        line.append(" " * gap if number else "").append_text(padded)
    return _stripped(line)


def _beside(line: Text, start: int, prose: Text, console: Console, width: int) -> Iterator[Text]:
    """The line, and the prose wrapped into the columns behind ``start``."""
    first, *others = _wrapped(console, prose, width - start, str(line.style))
    line.pad_right(start - line.cell_len)
    yield _stripped(line.append_text(first))
    yield from _indented(others, start)


def _wrapped(console: Console, text: Text, width: int, style: str) -> list[Text]:
    """At least one line; words longer than the line are broken."""
    styled = Text(style=style).append_text(text)
    return list(styled.wrap(console, max(1, width))) or [Text()]


def _indented(lines: Iterable[Text], indent: int, *, then: int | None = None) -> Iterator[Text]:
    """``then``: the indent of all lines but the first."""
    for number, line in enumerate(lines):
        line.pad_left(indent if then is None or number == 0 else then)
        yield line


def _stripped(line: Text) -> Text:
    line.rstrip()
    return line
