"""``docs/cli.md`` and ``docs/hardware.md`` are correct: commands print the output shown, and tables are complete.

``DOCS=write pytest tests/cli/test_help_page.py`` writes the current output of commands into ``hardware.md``.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.cli.app import COMMANDS
from llama4sdk.cli.errors import ExitCode

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "cli.md").read_text(encoding="utf-8")
HARDWARE = (DOCS / "hardware.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def examples(page: str) -> list[tuple[str, str]]:
    """Every command on a page, and the output below it."""
    parts = [example for block in BLOCK.findall(page) for example in block.removeprefix("$ ").split("\n$ ")]
    return [(line, output) for line, _, output in (example.partition("\n") for example in parts)]


@pytest.mark.parametrize(("line", "output"), examples(PAGE))
def test_an_example_prints_what_is_shown(cli: Any, line: str, output: str) -> None:
    """A command on the page, with its input, prints the output below it."""
    piped, _, command = line.rpartition(" | ")
    stdin = shlex.split(piped)[1] + "\n" if piped else ""
    result = cli(*shlex.split(command)[1:], input=stdin)
    assert result.stdout.strip() == output.strip()


@pytest.mark.parametrize(("line", "output"), examples(HARDWARE))
def test_a_machine_has_the_plan_that_is_shown(cli: Any, environment: dict[str, str], line: str, output: str) -> None:
    """A plan on the page about hardware is the one that torch alone gives today."""
    environment |= {"LLAMA4SDK_PLUGINS": "torch", "COLUMNS": "120"}
    now = cli(*shlex.split(line)[1:]).stdout
    if os.environ.get("DOCS") == "write":
        page = (DOCS / "hardware.md").read_text(encoding="utf-8")
        written = page.replace(f"$ {line}\n{output}```", f"$ {line}\n{now}```")
        (DOCS / "hardware.md").write_text(written, encoding="utf-8")
        output = now
    assert now == output


def test_every_command_and_exit_code_is_listed() -> None:
    """The page lists every command and every exit code."""
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)[: len(COMMANDS)] == list(COMMANDS)
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == sorted(ExitCode)
