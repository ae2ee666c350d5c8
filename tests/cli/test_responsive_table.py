"""Tables keep every word on terminals of any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from llama4sdk.cli.views.responsive_table import Column, ResponsiveTable, key_value_table

ROWS = (("scout", "16", "llama.cpp", "fits"), ("scout", "8", "torch", "lacks 84.6 GB: take 8 GPUs"))


def table(*, prose: bool = True, grouped: bool = True) -> ResponsiveTable:
    numbers = Column(heading="bits", right=True)
    columns = Column(heading="model", style="bold"), numbers, Column(heading="engine"), Column()
    responsive = ResponsiveTable(*columns, prose=prose, grouped=grouped)
    for row in ROWS:
        responsive.add_row(*row)
    return responsive


def printed(table: ResponsiveTable, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    return lines


def test_a_wide_terminal_has_everything_side_by_side() -> None:
    """Numbers stand to the right, equal first cells are shown once, and sentences are wrapped at the end."""
    assert printed(table(), 60) == [
        "model  bits  engine",
        "scout    16  llama.cpp  fits",
        "          8  torch      lacks 84.6 GB: take 8 GPUs",
    ]
    assert printed(table(), 48)[2:] == [
        "          8  torch      lacks 84.6 GB: take 8",
        "                        GPUs",
    ]


def test_sentences_go_below_the_columns_that_are_left_too_wide_for_them() -> None:
    """A short one stays beside, and the first column becomes a title."""
    assert printed(table(), 40) == [
        "bits  engine",
        "scout",
        "  16  llama.cpp  fits",
        "   8  torch",
        "    lacks 84.6 GB: take 8 GPUs",
    ]
    assert printed(table(grouped=False), 40)[2:] == ["scout     8  torch", "    lacks 84.6 GB: take 8 GPUs"]


def test_a_narrow_terminal_has_every_cell_behind_its_heading() -> None:
    """Nothing is cut off, however little room there is."""
    assert printed(table(), 12) == [
        "scout",
        "  bits 16,",
        "    engine",
        "    llama.cp",
        "    p",
        "    fits",
        "  bits 8,",
        "    engine",
        "    torch",
        "    lacks",
        "    84.6 GB:",
        "    take 8",
        "    GPUs",
    ]
    assert printed(key_value_table([("a key of many words", "value")]), 12) == ["a key of", "many words", "    value"]
    assert printed(table(prose=False), 30)[:3] == ["scout", "  bits 16, engine llama.cpp,", "    fits"]


@pytest.mark.parametrize("width", [30, 80])
def test_a_word_is_broken_only_where_no_line_could_hold_it(width: int) -> None:
    """A path can be copied where it fits on a line of its own."""
    path = "/a/path/that/is/longer/than/what/is/left"
    lines = printed(key_value_table([("the models are kept in", f"here: {path}")]), width)
    assert any(path in line for line in lines) == (width == 80)
    assert path in "".join(line.strip() for line in lines)


def test_colours_and_empty_tables() -> None:
    """A cell keeps its own style, and no rows are only headings."""
    colourful = ResponsiveTable(Column(), Column(style="bold"))
    colourful.add_row(Text("✓", style="green"), "done", style="dim")
    console = Console(file=io.StringIO(), width=20, force_terminal=True, color_system="standard")
    console.print(colourful)
    assert isinstance(console.file, io.StringIO)
    assert "\x1b[2;32m✓" in console.file.getvalue()
    assert printed(ResponsiveTable(Column(heading="a"), Column(heading="b")), 20) == ["a  b"]
