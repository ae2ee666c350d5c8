"""How far something slow is: what downloads and loading report, and what a progress bar is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes that are done and the bytes there will be (``None`` when nobody knows), where the work is done.

What it raises ends the work.
"""
