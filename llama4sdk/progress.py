"""How far something slow is: what downloads, loading and scoring report, and what a progress bar is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with what is done and what there will be (``None`` when nobody knows), where the work is done. Downloads and
loading count bytes, scoring counts tokens.

What it raises ends the work.
"""
