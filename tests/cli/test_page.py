"""``docs/cli.md`` tells the truth: its commands print what it shows, its tables are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.cli.app import COMMANDS
from llama4sdk.cli.errors import ExitCode

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = [example.partition("\n") for block in BLOCKS for example in block.removeprefix("$ ").split("\n$ ")]


@pytest.mark.parametrize(("line", "output"), [(line, output) for line, _, output in EXAMPLES])
def test_an_example_prints_what_is_shown(cli: Any, line: str, output: str) -> None:
    """A command on the page, with what is echoed into it, gives the output below it."""
    piped, _, command = line.rpartition(" | ")
    stdin = shlex.split(piped)[1] + "\n" if piped else ""
    result = cli(*shlex.split(command)[1:], input=stdin)
    assert result.stdout.strip() == output.strip()


def test_every_command_and_exit_code_is_listed() -> None:
    """Nothing the program can do or say is missing from the page."""
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)[: len(COMMANDS)] == list(COMMANDS)
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)] == sorted(ExitCode)
