"""A check of the doctor in a few characters: a mark in its colour, its text, and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from llama4sdk.diagnostics.machine import Check, Status

MARKS: Final[dict[Status, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "info": ("·", "blue"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "red"),
}

#: Characters of a text and its remedy up to which they share a line.
MAX_LINE_LENGTH: Final = 60


def status_mark(status: Status) -> Text:
    """The sign for a status."""
    sign, style = MARKS[status]
    return Text(sign, style=style)


def describe_check(check: Check, *, source: bool = False) -> Text:
    """A check's text, the distribution behind it if ``source`` is set, and its remedy behind or below."""
    text = Text(check.text)
    if source and check.source:
        text.append(f" ({check.source})", style="dim")
    if check.fix:
        separator = " " if len(text) + len(check.fix) <= MAX_LINE_LENGTH else "\n"
        text.append(f"{separator}→ {check.fix}", style="cyan")
    return text
