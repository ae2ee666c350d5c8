"""Look up whether modules are installed, without importing them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable


def missing(modules: Iterable[str]) -> tuple[str, ...]:
    """The modules among these that are not installed."""
    return tuple(name for name in modules if not _installed(name))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # the parent package of a dotted name is missing, or is half-loaded
        return False
