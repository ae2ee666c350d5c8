"""The commands by name. A command's module is imported when the command is run, or listed by ``--help``."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperGroup

from llama4sdk.cli.options import SETTINGS, expand_options

if TYPE_CHECKING:
    from typer._click import Command  # click itself in older typers; only its name is needed here

COMMANDS: Final = (
    *("doctor", "plan", "chat", "generate", "embed", "batch", "eval"),
    *("pull", "export", "inspect", "models", "backends", "version"),
)


class _Group(TyperGroup):
    def __init__(self, **attributes: object) -> None:
        super().__init__(**attributes)  # type: ignore[arg-type]  # typer's own keywords, passed on as they are
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # names, to list and to suggest

    def get_command(self, ctx: object, cmd_name: str) -> Command | None:
        return _load(cmd_name) if cmd_name in COMMANDS else None


def app() -> typer.Typer:
    """The program, ready to be called with arguments."""
    program = typer.Typer(cls=_Group, no_args_is_help=True, pretty_exceptions_enable=False, context_settings=SETTINGS)
    program.callback()(_root)
    return program


def _show_version(value: bool) -> None:  # noqa: FBT001 - typer's calling convention
    if value:
        from llama4sdk.cli.commands.version import version

        version()
        raise typer.Exit


def _root(
    *,
    version: Annotated[
        bool, typer.Option("--version", "-V", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Run Llama 4 wherever it can run: on this machine, or where you allow it.

    Start with 'llama4sdk doctor': it shows what this machine can do and what to fix.
    """


@cache
def _load(name: str) -> Command:
    command = getattr(importlib.import_module(f"llama4sdk.cli.commands.{name}"), name)
    if isinstance(command, typer.Typer):
        return typer.main.get_command(command)
    single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=SETTINGS)
    single.command(name)(expand_options(command))
    return typer.main.get_command(single)
