"""From exceptions to a line on stderr and an exit code: the one place for all commands."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import Final

import typer

from llama4sdk import errors

__all__ = ["ExitCode", "exit_code", "guarded", "report"]


class ExitCode(IntEnum):
    """What the program's exit status means, of all commands but ``doctor``."""

    OK = 0
    BUG = 1
    USAGE = 2
    NO_PLAN = 3
    BACKEND = 4
    REMOTE = 5
    CONTEXT = 6
    INTERRUPTED = 130


MEANINGS: Final[tuple[tuple[type[errors.Llama4Error], ExitCode], ...]] = (
    (errors.ContextLengthError, ExitCode.CONTEXT),
    (errors.ConfigurationError, ExitCode.USAGE),
    (errors.UnsupportedFeatureError, ExitCode.USAGE),
    (errors.PlanningError, ExitCode.NO_PLAN),
    (errors.APIError, ExitCode.REMOTE),
    (errors.ContentFilteredError, ExitCode.REMOTE),
    (errors.Llama4Error, ExitCode.BACKEND),
)
"""The first that fits counts."""

UNWRITABLE: Final = (errno.ENOSPC, errno.EDQUOT)
"""How the system says that a file which output is sent to takes no more."""


def exit_code(error: errors.Llama4Error) -> ExitCode:
    """The exit status for an error."""
    return next(code for kind, code in MEANINGS if isinstance(error, kind))


def report(error: errors.Llama4Error) -> None:
    """Say on stderr what happened and what to do."""
    from llama4sdk.cli.console import stderr

    console = stderr()
    console.print("Error:", style="bold red", end=" ")
    console.print(error.message, markup=False)
    for attempt in error.attempts if len(error.attempts) > 1 else ():
        where = f"{attempt.model} on {attempt.backend}, {attempt.seconds:.1f} s"
        console.print(f"  tried {where}: {attempt.error or 'it answered'}", style="dim", markup=False)
    if error.hint:
        console.print("Hint:", style="bold yellow", end=" ")
        console.print(error.hint, markup=False)


def guarded(work: Callable[[], None]) -> None:
    """Do the work; turn the SDK's errors, Ctrl-C and a reader that left into an exit status.

    Any other exception is a bug and passes with its traceback.
    """
    try:
        work()
        sys.stdout.flush()
    except errors.Llama4Error as error:
        report(error)
        raise typer.Exit(exit_code(error)) from None
    except (KeyboardInterrupt, typer.Abort):
        print("\nInterrupted.", file=sys.stderr)
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # 'llama4sdk … | head': the reader has what it wanted. Nothing more may be flushed into the pipe at exit.
        _give_up_stdout()
        raise typer.Exit(ExitCode.OK) from None
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        _give_up_stdout()
        report(errors.Llama4Error(f"The output cannot be written: {error.strerror}.", hint="Write it elsewhere."))
        raise typer.Exit(ExitCode.BACKEND) from None


def _give_up_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
