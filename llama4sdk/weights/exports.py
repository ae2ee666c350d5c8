"""Recognize directories that an exporter wrote, which are not checkpoints though they look alike.

An export names its format in ``manifest.json``; an unfinished one in its journal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from llama4sdk.errors import ModelLoadError

MANIFEST: Final = "manifest.json"
JOURNAL: Final = "export.journal"
#: Prefix of the formats of this SDK's exporters.
FORMAT_PREFIX: Final = "llama4sdk-"


def export_format(path: Path) -> str | None:
    """The format of an export, finished or not; ``None`` for any other path."""
    for name in (MANIFEST, JOURNAL):
        try:
            with (path / name).open(encoding="utf-8") as file:
                header = json.load(file) if name == MANIFEST else json.loads(file.readline())
        except (OSError, ValueError, RecursionError):  # absent, or another program's
            continue
        kind = header.get("format") if isinstance(header, dict) else None
        if isinstance(kind, str) and kind.startswith(FORMAT_PREFIX):
            return kind
    return None


def refuse_export(path: Path) -> None:
    """Raise ModelLoadError for a directory that is an export."""
    if (kind := export_format(path)) is None:
        return
    engine = kind.removeprefix(FORMAT_PREFIX)
    if not (path / MANIFEST).is_file():
        raise ModelLoadError(
            f"{path} is an export for '{engine}' that was not finished, not a checkpoint.",
            hint="The command that began it finishes it.",
        )
    raise ModelLoadError(
        f"{path} is an export for '{engine}', not a checkpoint.",
        hint=f"Run it with the backend of that name, '{engine}', or give the checkpoint it was made from.",
    )
