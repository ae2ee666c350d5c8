"""``docs/onnx.md`` tells the truth: its commands print what it shows."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "onnx.md"
BLOCK = re.compile(r"```console\n\$ (.*)\n([\s\S]*?)```")
#: Of an export: tokenizers and graphs are text, which differs by versions.
SIZE = r"size +\d+ MB in \d+ files"


def test_commands_print_what_is_shown(tmp_path: Path) -> None:
    """One after the other, in an empty directory, as somebody would who reads the page."""
    shown = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(shown) == 2
    for line, output in shown:
        command = [sys.executable, "-m", "llama4sdk", *shlex.split(line)[1:]]
        environment = os.environ | {"COLUMNS": "100"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300)
        assert done.returncode == 0, done.stderr
        assert re.sub(SIZE, "size", done.stdout.strip()) == re.sub(SIZE, "size", output.strip())


def test_a_plan_and_a_look_at_an_export_say_what_it_is(demo_int8: Path) -> None:
    """``plan`` names the one engine that runs it; ``inspect``, which is for checkpoints, says why it does not."""
    plan, look = (
        subprocess.run([sys.executable, "-m", "llama4sdk", *words], capture_output=True, text=True, timeout=300)
        for words in (["plan", "--model", str(demo_int8), "--json"], ["inspect", str(demo_int8)])
    )
    assert plan.returncode == 0, plan.stderr
    assert json.loads(plan.stdout)["backend"] == "onnx"
    assert (look.returncode, look.stdout) == (4, "")
    assert "is an export for 'onnx', not a checkpoint" in look.stderr
