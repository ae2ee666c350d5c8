"""Numbers as people write them: counts, lengths, speeds, times."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama4sdk.capacity.roofline import Interval


def format_parameters(number: int | None) -> str:
    """A number of parameters: ``109B``, ``135M``; ``—`` for ``None``."""
    if number is None:
        return "—"
    if number >= 1e9:
        return f"{number / 1e9:.0f}B"
    return f"{number / 1e6:.0f}M" if number >= 1e6 else f"{number:,}"


def format_context(number: int | None) -> str:
    """The context length of a network, in units of 1024 tokens: ``10M``, ``128K``; ``—`` for ``None``."""
    if number is None:
        return "—"
    return f"{number // 2**20}M" if number >= 2**20 else f"{number // 1024}K" if number >= 1024 else str(number)


def format_tokens(number: int | None) -> str:
    """A number of tokens in thousands, rounded down: ``2.2M``, ``392K``; ``?`` for ``None``."""
    if number is None:
        return "?"
    if number >= 10**6:
        return f"{number // 10**5 / 10:g}M"
    return f"{number // 1000}K" if number >= 1000 else str(number)


def format_number(number: float) -> str:
    """Two significant digits below ten, and whole numbers above: ``0.42``, ``3.5``, ``1,234``."""
    return f"{number:.2g}" if number < 1 else f"{number:.1f}" if number < 10 else f"{number:,.0f}"


def format_speed(speed: Interval | None, *, guessed: bool) -> str:
    """Predicted tokens a second: ``154-234``, ``~3.5-23`` for a guess; ``?`` for ``None``."""
    if speed is None:
        return "?"
    return f"{'~' if guessed else ''}{format_number(speed.low)}-{format_number(speed.high)}"


def format_dollars(dollars: float | None) -> str:
    """A price to the cent: ``0.17``; ``?`` for ``None``."""
    return "?" if dollars is None else f"{dollars:.2f}"


def format_duration(seconds: float) -> str:
    """A time to wait: ``45 s``, ``10 min``, ``2.5 h``."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
