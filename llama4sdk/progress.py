"""The callback that reports the progress of downloads, loading, scoring and batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

__all__ = ["Progress"]

#: Called, in the thread that does the work, with the amount done and the total (``None`` where it is unknown): bytes of
#: downloads and loading, tokens of scoring, requests of batches. An exception it raises ends the work.
Progress: TypeAlias = Callable[[int, int | None], None]
