"""Hundreds of streams at once, against a server in another process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "remote.py"
TOKENS = "200" if "LOAD" in os.environ else "20"
ROUNDS = "12" if "LOAD" in os.environ else "4"


def test_nothing_is_lost_and_memory_is_flat() -> None:
    """Five hundred streams, round after round: every piece of each, in order; LOAD=full asks for longer ones."""
    command = [sys.executable, str(BENCHMARK), "load", "--rounds", ROUNDS, "--tokens", TOKENS]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    memory = [float(number) for number in re.findall(r"([\d.]+) MB", run.stdout)]
    assert len(memory) == int(ROUNDS)
    assert memory[-1] < memory[1] + 24  # the first round fills pools; an answer of each stream that stays would be more
