"""Writing output: results on stdout, messages to people on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from getpass import getpass
from typing import TYPE_CHECKING, Final

from rich.console import Console, RenderableType

from llama4sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import JsonValue

#: Columns of a terminal that does not say how wide it is.
DEFAULT_WIDTH: Final = 80


def show(*pieces: RenderableType) -> None:
    """Print tables and text on stdout; colour and width follow the terminal, NO_COLOR included."""
    console = Console(highlight=False, emoji=False, markup=False)  # names may hold brackets
    if console.width < 1:  # COLUMNS=0, as some systems set it, means that nobody knows
        console.width = DEFAULT_WIDTH
    if console.is_terminal:
        console.print(*pieces, sep="\n")
        return
    with console.capture() as captured:
        console.print(*pieces, sep="\n")
    write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))  # rich pads cells to full width


def stderr() -> Console:
    """A console for messages to people, which programs should not read."""
    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def note(text: str) -> None:
    """Print one line on stderr."""
    stderr().print(text, style="dim", markup=False)


@contextmanager
def note_if_interrupted(text: str) -> Iterator[None]:
    """Print ``text`` on stderr when Ctrl-C ends the work within."""
    try:
        yield
    except KeyboardInterrupt:
        note(text)
        raise


def print_json(value: Mapping[str, JsonValue] | Sequence[JsonValue]) -> None:
    """Print a JSON document on stdout, for programs."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    write(json.dumps(value, ensure_ascii=not unicode, indent=2) + "\n")


def write(text: str) -> None:
    """Print text on stdout, at once and exactly as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


@cache
def ask_key() -> str:
    """Ask for an API key, once, and hide what is typed. Raises ConfigurationError without a terminal."""
    if not sys.stdin.isatty():
        raise ConfigurationError(
            "There is no terminal to ask for the key at.",
            hint="Put it into the backend's variable; 'llama4sdk backends' names it.",
        )
    return getpass("API key: ", stream=sys.stderr)


def confirm(question: str) -> bool:
    """Ask at the terminal, where Enter means yes; without a terminal the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [Y/n] ")  # not input(): it would write to stdout, which is for results
    sys.stderr.flush()
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("", "y", "yes") and answer != ""
