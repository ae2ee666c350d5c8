"""Downloading with consent and a progress bar."""

from __future__ import annotations

import time
from pathlib import Path

from llama4sdk import settings, weights
from llama4sdk._text import gb
from llama4sdk.catalog import models
from llama4sdk.cli.console import agreed, note, stderr
from llama4sdk.cli.views.progress_bars import bytes_bar
from llama4sdk.errors import WeightsNotFoundError
from llama4sdk.probe import measurements
from llama4sdk.progress import Progress
from llama4sdk.weights.store import DEMO_SIZE

__all__ = ["fetch"]


def fetch(model: str, *, yes: bool) -> Path:
    """Fetch a model that ``weights.can_pull``, after asking (``yes`` answers); return where it is.

    Raises WeightsNotFoundError when nobody agreed, DownloadError when it failed.
    """
    spec = models.find(model) or models.DEMO
    what = f"{spec.title} ({gb(DEMO_SIZE)}, {spec.license})"
    if not yes and not agreed(f"Download {what}?"):
        raise WeightsNotFoundError(
            f"{what} is not on this machine.", hint=f"'llama4sdk pull {spec.name} --yes' fetches it."
        )
    try:
        return _with_bar(model, what)
    except KeyboardInterrupt:
        note("Stopped. Nothing is kept of an interrupted download; the same command starts again.")
        raise


def _with_bar(model: str, what: str) -> Path:
    console = stderr()
    if not console.is_terminal:
        note(f"Fetching {what} …")
        return _measured(model, lambda done, total: None)
    with bytes_bar(console) as bar:
        task = bar.add_task(f"Fetching {model}", total=None)
        return _measured(model, lambda done, total: bar.update(task, completed=done, total=total))


def _measured(model: str, progress: Progress) -> Path:
    """Fetch it, and keep how fast it came: from the first piece on, without what was here before."""
    pieces: list[tuple[int, float]] = []

    def watch(done: int, total: int | None) -> None:
        pieces[1:] = [(done, time.monotonic())]
        progress(done, total)

    path = weights.pull(model, progress=watch)
    if len(pieces) > 1:
        (first, began), (last, ended) = pieces
        measurements.record_download(settings.home(), last - first, ended - began)
    return path
