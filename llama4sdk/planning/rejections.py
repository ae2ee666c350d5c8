"""Many rejections in fewer words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llama4sdk.planning.offers import kept_here
from llama4sdk.planning.plan import Rejection

__all__ = ["FEW", "grouped"]

FEW: Final = 2
"""So many remote backends are told one by one."""


def grouped(found: Sequence[Rejection], remote: frozenset[str]) -> list[Rejection]:
    """The rejections with one for all remote backends and models."""
    quiet = [one for one in found if one.backend in remote]
    names = {one.backend for one in quiet}
    if len(names) <= FEW:
        return list(found)
    barred = any(one.reason == kept_here(one.backend).reason for one in quiet)
    lack = "they need a key or an address, or have no such model"
    whole = Rejection(
        backend=f"{len(names)} remote ones",
        model=None,
        reason=f"{lack}, or prompts would leave this machine, and the policy keeps them here."
        if barred
        else f"{lack}.",
        fix=f"'llama4sdk backends' says what each needs{'; --backend or --remote allows it' if barred else ''}.",
    )
    return [*(one for one in found if one.backend not in remote), whole]
