"""Directories that an exporter wrote: not checkpoints, though much in them looks like one.

An export says what it is in ``manifest.json``, under ``format``; one that is not whole yet has a journal instead.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from llama4sdk.errors import ModelLoadError

__all__ = ["JOURNAL", "MANIFEST", "export_format", "refuse_export"]

MANIFEST: Final = "manifest.json"
JOURNAL: Final = "export.journal"
#: How the formats begin of what this SDK's exporters write.
OURS: Final = "llama4sdk-"


def export_format(path: Path) -> str | None:
    """What kind of export a directory holds, whole or not; ``None`` for anything else."""
    for name in (MANIFEST, JOURNAL):
        try:
            with (path / name).open(encoding="utf-8") as file:
                said = json.load(file) if name == MANIFEST else json.loads(file.readline())
        except (OSError, ValueError, RecursionError):  # none, or not ours
            continue
        if isinstance(said, dict) and isinstance(kind := said.get("format"), str) and kind.startswith(OURS):
            return kind
    return None


def refuse_export(path: Path) -> None:
    """Raise ModelLoadError for a directory that is an export."""
    if (kind := export_format(path)) is None:
        return
    engine = kind.removeprefix(OURS)
    if not (path / MANIFEST).is_file():
        raise ModelLoadError(
            f"{path} is an export for '{engine}' that was not finished, not a checkpoint.",
            hint="The command that began it finishes it.",
        )
    raise ModelLoadError(
        f"{path} is an export for '{engine}', not a checkpoint.",
        hint=f"Run it with the backend of that name, '{engine}', or give the checkpoint it was made from.",
    )
