"""Portable graphs, held to the native engine on the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from llama4sdk_onnx import interface
from onnx.reference import ReferenceEvaluator

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


def test_any_runtime_of_the_standard_runs_it(tiny: Tiny, tmp_path: Path) -> None:
    """ONNX' own reference evaluator, which knows no operators of ONNX Runtime, gives the native engine's logits."""
    checkpoint = tiny("scout")
    export(checkpoint, tmp_path, "int4/fp32", kind="portable")
    config, tokens = checkpoint.config, TOKENS[:1, :8]
    empty = np.zeros((1, config.num_kv_heads, 0, config.head_dim), np.float32)
    feeds = {name: empty for layer in range(config.num_layers) for name in interface.past(layer)}
    feeds |= {interface.IDS: tokens, interface.POSITIONS: np.arange(8)[None], interface.LOGITS_AT: np.arange(8)}
    (logits,) = ReferenceEvaluator(str(tmp_path / "model.onnx")).run([interface.LOGITS], feeds)
    wanted, _ = answers(native(checkpoint, "int4/fp32"), TOKENS[:1])
    assert np.abs(logits - wanted[0, :8]).max() < 1e-4
