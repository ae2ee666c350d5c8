"""Where output goes: results on stdout, everything meant for a person on stderr."""

from __future__ import annotations

import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue
    from rich.console import Console, RenderableType

__all__ = ["agreed", "ask_key", "note", "print_json", "show", "stderr", "write"]

UNKNOWN_WIDTH: Final = 80


def show(*pieces: RenderableType) -> None:
    """Tables and reports on stdout, one below the other; colour and width follow the terminal, NO_COLOR included."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False)  # names may hold brackets
    if console.width < 1:  # COLUMNS=0, as some systems set it, means that nobody knows
        console.width = UNKNOWN_WIDTH
    if console.is_terminal:
        console.print(*pieces, sep="\n")
        return
    with console.capture() as captured:
        console.print(*pieces, sep="\n")
    write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))  # rich pads cells to full width


def stderr() -> Console:
    """A console for what a person should know and a program should not read."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


def note(text: str) -> None:
    """One line on stderr."""
    stderr().print(text, style="dim", markup=False)


def print_json(value: Mapping[str, JsonValue] | Sequence[JsonValue]) -> None:
    """A JSON document on stdout, for programs."""
    whole = (sys.stdout.encoding or "").lower().startswith("utf")
    write(json.dumps(value, ensure_ascii=not whole, indent=2) + "\n")


def write(text: str) -> None:
    """Text on stdout, at once and exactly as it is."""
    sys.stdout.write(text)
    sys.stdout.flush()


@cache
def ask_key() -> str:
    """The API key that is typed at the terminal, unseen; asked for once. Raises ConfigurationError where nobody is."""
    from getpass import getpass

    from llama4sdk.errors import ConfigurationError

    if not sys.stdin.isatty():
        raise ConfigurationError(
            "There is no terminal to ask for the key at.",
            hint="Put it into the backend's variable; 'llama4sdk backends' names it.",
        )
    return getpass("API key: ", stream=sys.stderr)


def agreed(question: str) -> bool:
    """Ask the person at the terminal, who may just press Enter; where there is nobody, the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    sys.stderr.write(f"{question} [Y/n] ")  # not input(): it would write to stdout, which is for results
    sys.stderr.flush()
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("", "y", "yes") and answer != ""
