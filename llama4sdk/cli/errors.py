"""Exceptions as a line on stderr and an exit status, for all commands."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import typer
from rich.text import Text

from llama4sdk import errors
from llama4sdk.cli.console import stderr


class ExitCode(IntEnum):
    """The program's exit statuses; ``doctor`` has its own."""

    OK = 0
    BUG = 1
    USAGE = 2
    NO_PLAN = 3
    BACKEND = 4
    REMOTE = 5
    CONTEXT = 6
    INTERRUPTED = 130


#: The first class that an error belongs to counts.
EXIT_CODES: Final[tuple[tuple[type[errors.Llama4Error], ExitCode], ...]] = (
    (errors.ContextLengthError, ExitCode.CONTEXT),
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.UnsupportedFeatureError, ExitCode.USAGE),
    (errors.PlanningError, ExitCode.NO_PLAN),
    (errors.APIError, ExitCode.REMOTE),
    (errors.ContentFilteredError, ExitCode.REMOTE),
    (errors.Llama4Error, ExitCode.BACKEND),
)
#: Errors of a full disk, when stdout is a file.
DISK_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def exit_code(error: errors.Llama4Error) -> ExitCode:
    """The exit status for an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def print_error(error: errors.Llama4Error) -> None:
    """Print the error, the attempts that led to it, and its hint on stderr."""
    console = stderr()
    console.print(Text.assemble(("Error:", "bold red"), f" {error.message}"))
    for attempt in error.attempts if len(error.attempts) > 1 else ():
        where = f"{attempt.model} on {attempt.backend}, {attempt.seconds:.1f} s"
        console.print(f"  tried {where}: {attempt.error or 'it answered'}", style="dim", markup=False)
    if error.hint:
        console.print(Text.assemble(("Hint:", "bold yellow"), f" {error.hint}"))


def exit_on_error(work: Callable[[], None]) -> None:
    """Run a command; turn the SDK's errors, Ctrl-C and a closed pipe into an exit status.

    Any other exception is a bug and passes with its traceback.
    """
    try:
        work()
        sys.stdout.flush()
    except errors.Llama4Error as error:
        print_error(error)
        raise typer.Exit(exit_code(error)) from None
    except (KeyboardInterrupt, typer.Abort):
        print("\nInterrupted.", file=sys.stderr)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        _discard_stdout()  # 'llama4sdk … | head': the reader has all it wanted
        raise typer.Exit(ExitCode.OK) from None
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        _discard_stdout()
        print_error(errors.Llama4Error(f"The output cannot be written: {error.strerror}.", hint="Write it elsewhere."))
        raise typer.Exit(ExitCode.BACKEND) from None


def _discard_stdout() -> None:
    """Send stdout nowhere, so that Python's flush at exit does not fail as well."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
