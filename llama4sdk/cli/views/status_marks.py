"""How a check looks: a mark in its colour, and its text with the way out below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

if TYPE_CHECKING:
    from llama4sdk.diagnostics.machine import Check, Status

__all__ = ["mark", "remark"]

MARKS: Final[dict[Status, tuple[str, str]]] = {
    "ok": ("✓", "green"),
    "info": ("·", "blue"),
    "warn": ("!", "yellow"),
    "fail": ("✗", "red"),
}

SHORT: Final = 60
"""Characters of a text and its remedy that share a line."""


def mark(status: Status) -> Text:
    """The sign for a status."""
    sign, style = MARKS[status]
    return Text(sign, style=style)


def remark(check: Check, *, source: bool = False) -> Text:
    """What a check says, who is behind it if that is wanted, and behind or below it what to do."""
    text = Text(check.text)
    if source and check.source:
        text.append(f" ({check.source})", style="dim")
    if check.fix:
        gap = " " if len(text) + len(check.fix) <= SHORT else "\n"
        text.append(f"{gap}→ {check.fix}", style="cyan")
    return text
