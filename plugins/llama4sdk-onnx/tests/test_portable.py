"""Portable graphs, held to the native engine on the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from .exported import assert_near
from .running import export
from .test_graph import TOKENS, Tiny, answers, native


@pytest.mark.parametrize("flavour", ["scout", "maverick", "llama", "two experts"])
@pytest.mark.parametrize("quantization", ["fp32", "int8/fp32", "int4/fp32"])
def test_the_native_engines_numbers(tiny: Tiny, tmp_path: Path, flavour: str, quantization: str) -> None:
    """A prompt up to a border and beyond, then token by token, gives equal logits; no operator is anybody's own."""
    checkpoint = tiny(flavour)
    wanted, _ = answers(native(checkpoint, quantization), TOKENS[:1])
    sequences = export(checkpoint, tmp_path, quantization, kind="portable").start()
    steps = [TOKENS[:1, :21], *(TOKENS[:1, at : at + 1] for at in range(21, 30))]
    found = np.concatenate([sequences.feed(step)[0] for step in steps], 1)
    assert_near(found, wanted)
    model = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 21)]
