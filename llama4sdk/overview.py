"""A report in fewer lines: remote backends, of which there may be many, are summed up in one. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama4sdk.findings import Check, check
from llama4sdk.planning.rejections import FEW

if TYPE_CHECKING:
    from llama4sdk.doctor import Report

__all__ = ["shortened"]


def shortened(report: Report) -> tuple[Check, ...]:
    """The checks with one line for all remote backends, but for those that something is wrong with."""
    remote = {entry.info.name for entry in report.backends if entry.info.capabilities.remote}
    quiet = [c for c in report.checks if c.section == "backends" and c.title in remote and c.status in ("ok", "info")]
    if len(quiet) <= FEW:
        return report.checks
    ready = [one.title for one in quiet if one.status == "ok"]
    others = len(quiet) - len(ready)
    told = [f"{', '.join(ready)} ready"] if ready else []
    if others:
        told.append(f"{others}{' others' if ready else ''} need a key or an address")
    text = f"{'; '.join(told)}. Prompts go there only when that is allowed"
    line = check("backends", "ok" if ready else "info", "remote", text, "llama4sdk backends" if others else None)
    rest = [one for one in report.checks if one not in quiet]
    end = 1 + max(place for place, one in enumerate(rest) if one.section == "backends")
    return (*rest[:end], line, *rest[end:])
