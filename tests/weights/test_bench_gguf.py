"""``benchmarks/bench_gguf.py`` writes the model of ``benchmarks/bench_model.py`` for llama.cpp."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from llama4sdk.weights.opening import open_checkpoint

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_twin_in_gguf_is_the_same_model(tmp_path: Path) -> None:
    """The GGUF file has the same network and all its tensors, and a matrix's values are near the original's."""
    folder, file = tmp_path / "model", tmp_path / "model.gguf"
    small = ["--layers", "2", "--hidden", "256", "--vocabulary", "300"]
    for command in (["bench_model.py", str(folder), *small], ["bench_gguf.py", str(folder), str(file)]):
        subprocess.run(
            [sys.executable, str(BENCHMARKS / command[0]), *command[1:]], check=True, stdout=subprocess.DEVNULL
        )
    original, twin = open_checkpoint(folder), open_checkpoint(file)
    twin.verify()
    same = {
        "num_layers",
        "hidden_size",
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "num_experts",
        "expert_size",
        "vocab_size",
    }
    assert twin.config.model_dump(include=same) == original.config.model_dump(include=same)
    for name in ("lm_head.weight", "model.layers.1.feed_forward.router.weight"):
        wanted, actual = (np.asarray(of.read(name)).astype(np.float32) for of in (original, twin))
        assert np.abs(actual - wanted).max() <= np.abs(wanted).max() / 7
