"""Progress bars on stderr."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from llama4sdk.cli.console import stderr

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console
    from rich.progress import Progress as Bar

    from llama4sdk.progress import Progress

__all__ = ["bytes_bar", "count_bar", "loading_bar"]

MOMENT: Final = 0.5
"""Seconds of loading after which a bar takes the place of the spinner."""


def bytes_bar(console: Console) -> Bar:
    """Bytes done and in all, their speed and the time that is left; gone when it ends."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


@contextmanager
def loading_bar(model: str) -> Iterator[Progress | None]:
    """What to give to ``Client.load``: on a terminal a spinner, then a bar; ``None`` where nobody looks."""
    console = stderr()
    if not console.is_interactive:
        yield None
        return
    spinner, bar, begun = console.status(f"Loading {model} …"), bytes_bar(console), time.monotonic()
    task = bar.add_task(f"Loading {model}", total=None)

    def show(done: int, total: int | None) -> None:
        bar.update(task, completed=done, total=total)
        if time.monotonic() - begun > MOMENT:
            spinner.stop()
            bar.start()

    with spinner:
        try:
            yield show
        finally:
            bar.stop()


@contextmanager
def count_bar(what: str, total: int | None = None) -> Iterator[Progress | None]:
    """How many are done, of how many, and the time that is left; ``None`` where nobody looks."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = stderr()
    if not console.is_terminal:
        yield None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, total: bar.update(task, completed=done, total=total)
