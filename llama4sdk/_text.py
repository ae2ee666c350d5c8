"""Text for people: nearest names, byte counts, amounts of money, validation errors."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], label: str) -> str:
    """A hint with the most similar known name, if one is similar, and the list of all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean '{near[0]}'? " if near else ""
    return f"{guess}{label}: {', '.join(names) or 'none'}."


def gb(size: int) -> str:
    """Format bytes in decimal units, GB at most: ``217.3 GB``, ``98 MB``, ``12 kB``."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def dollars(amount: float) -> str:
    """Format US dollars with two to six decimals: ``$1.50``, ``$0.000044``."""
    whole, _, cents = f"{amount:.6f}".partition(".")
    return f"${whole}.{cents[:2]}{cents[2:].rstrip('0')}"


def error_text(error: BaseException) -> str:
    """The class of an error and its message, where it has one: ``ValueError: x is 1``."""
    message = getattr(error, "message", "") or str(error)  # without the hint of the SDK's own
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def in_words(error: Exception) -> str:
    """Describe an error in one line, pydantic's as ``max_tokens is -5: input should be greater than or equal to 1``."""
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return str(error)
    faults = []
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in fault["loc"])
        text = fault["msg"].removeprefix("Value error, ")
        text = text[:1].lower() + text[1:]
        shown = isinstance(fault["input"], (int, float, bool)) or (
            isinstance(fault["input"], str) and len(fault["input"]) <= 40
        )
        value = f" is {fault['input']!r}" if shown else ""
        faults.append(f"{where}{value}: {text}" if where else text)
    return "; ".join(faults)
