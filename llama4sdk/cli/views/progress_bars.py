"""Progress bars and spinners on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final

from rich import progress as bars
from rich.console import Console

from llama4sdk.cli.console import note, stderr
from llama4sdk.progress import Progress

#: Loading time after which a bar takes the place of the spinner.
SPINNER_SECONDS: Final = 0.5


def spinner(title: str) -> AbstractContextManager[object]:
    """A sign on the terminal that something slow goes on."""
    console = stderr()
    return console.status(title) if console.is_terminal else nullcontext()


@contextmanager
def bytes_bar(title: str, line: str) -> Iterator[Progress | None]:
    """Bytes done and in all, their speed and the time left. Without a terminal prints ``line`` and gives ``None``."""
    console = stderr()
    if not console.is_terminal:
        note(line)
        yield None
        return
    with _bar(console, bars.DownloadColumn(), bars.TransferSpeedColumn()) as bar:
        yield _progress(bar, title)


@contextmanager
def loading_bar(model: str) -> Iterator[Progress | None]:
    """The progress of ``Client.load``: a spinner, then a bar of bytes; ``None`` without a terminal."""
    console = stderr()
    if not console.is_interactive:
        yield None
        return
    title, started = f"Loading {model}", time.monotonic()
    bar = _bar(console, bars.DownloadColumn(), bars.TransferSpeedColumn())
    status, update = console.status(f"{title} …"), _progress(bar, title)

    def progress(done: int, total: int | None) -> None:
        update(done, total)
        if time.monotonic() - started > SPINNER_SECONDS:
            status.stop()
            bar.start()

    with status:
        try:
            yield progress
        finally:
            bar.stop()


@contextmanager
def count_bar(title: str, total: int | None = None) -> Iterator[Progress | None]:
    """Items done, of how many, and the time left; ``None`` without a terminal."""
    console = stderr()
    if not console.is_terminal:
        yield None
        return
    with _bar(console, bars.MofNCompleteColumn()) as bar:
        yield _progress(bar, title, total)


def _bar(console: Console, *columns: bars.ProgressColumn) -> bars.Progress:
    """A bar that is cleared when it ends; ``columns`` stand between it and the time left."""
    columns = bars.TextColumn("{task.description}"), bars.BarColumn(), *columns, bars.TimeRemainingColumn()
    return bars.Progress(*columns, console=console, transient=True)


def _progress(bar: bars.Progress, title: str, total: int | None = None) -> Progress:
    """A new task of the bar, as the function that reports on it."""
    task = bar.add_task(title, total=total)
    return lambda done, total: bar.update(task, completed=done, total=total)
