"""Words for people: nearest names, byte counts."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["gb", "nearest"]


def nearest(name: str, known: Iterable[str], label: str) -> str:
    """A hint that guesses what was meant and lists what exists."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    guess = f"Did you mean '{near[0]}'? " if near else ""
    return f"{guess}{label}: {', '.join(names) or 'none'}."


def gb(size: int) -> str:
    """Bytes as decimal gigabytes, or megabytes below one: ``217.3 GB``, ``98 MB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
