"""``docs/writing-a-backend.md`` tells the truth: the files it shows are the example's, and what it names exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from llama4sdk.testing.conformance.ground import Ground

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "plugins" / "llama4sdk-example"
PAGE = (ROOT / "docs" / "writing-a-backend.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path",
    [
        "pyproject.toml",
        "src/llama4sdk_example/__init__.py",
        "src/llama4sdk_example/backend.py",
        "tests/test_conformance.py",
    ],
)
def test_the_files_shown_are_the_examples_own(path: str) -> None:
    """Each file of the template stands in the page word for word."""
    assert f"\n{(EXAMPLE / path).read_text(encoding='utf-8').rstrip()}\n```" in PAGE


def test_the_table_lists_every_setting() -> None:
    """The settings in the page are those of the kit, all of them but ``backend``."""
    listed = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert listed == set(Ground.__annotations__) - {"backend"}


def test_the_output_shown_is_the_output() -> None:
    """The command line that generates prints what the page says."""
    shown = re.search(r"^\$ llama4sdk (generate .*)\n(.*)$", PAGE, re.MULTILINE)
    assert shown is not None
    command = [sys.executable, "-m", "llama4sdk", *shlex.split(shown[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=EXAMPLE)
    assert done.stdout.strip() == shown[2].strip()
