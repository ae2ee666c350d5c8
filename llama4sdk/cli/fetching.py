"""Downloading weights, with consent and a progress bar."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from llama4sdk import settings, weights
from llama4sdk._text import gb
from llama4sdk.catalog import models
from llama4sdk.cli.console import confirm, note_if_interrupted
from llama4sdk.cli.views.progress_bars import bytes_bar
from llama4sdk.errors import WeightsNotFoundError
from llama4sdk.probe import measurements
from llama4sdk.progress import Progress
from llama4sdk.weights.store import DEMO_SIZE

INTERRUPTED: Final = "Stopped. Nothing is kept of an interrupted download; the same command starts again."


def fetch(model: str, *, yes: bool) -> Path:
    """Download a model for which ``weights.can_pull`` is true, after asking (``yes`` answers); return its path.

    Raises WeightsNotFoundError when nobody agreed, DownloadError when it failed.
    """
    spec = models.find(model) or models.DEMO
    title = f"{spec.title} ({gb(DEMO_SIZE)}, {spec.license})"
    if not yes and not confirm(f"Download {title}?"):
        raise WeightsNotFoundError(
            f"{title} is not on this machine.", hint=f"'llama4sdk pull {spec.name} --yes' fetches it."
        )
    with note_if_interrupted(INTERRUPTED), bytes_bar(f"Fetching {model}", f"Fetching {title} …") as progress:
        return _timed_pull(model, progress or (lambda done, total: None))


def _timed_pull(model: str, progress: Progress) -> Path:
    """Download, and keep the speed for later predictions: from the first piece on, without what was here before."""
    pieces: list[tuple[int, float]] = []

    def record(done: int, total: int | None) -> None:
        pieces[1:] = [(done, time.monotonic())]
        progress(done, total)

    path = weights.pull(model, progress=record)
    if len(pieces) > 1:
        (first, started), (last, ended) = pieces
        measurements.record_download(settings.home(), last - first, ended - started)
    return path
