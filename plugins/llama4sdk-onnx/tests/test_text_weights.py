"""Rounding and packing: the codes and scales of the native engine, and errors that name the tensor."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import torch
from llama4sdk_onnx.export.options import parse_quantization
from llama4sdk_onnx.export.weights.quantize import quantize, workers
from llama4sdk_onnx.export.weights.text_weights import text_weight_files
from llama4sdk_torch.quantized import Quantized, empty, quantize_into

from llama4sdk.errors import CheckpointError, ConfigurationError
from llama4sdk.quantization import QuantizationConfig

from .test_graph import Tiny


@pytest.mark.parametrize("name", ["int8", "int4", "int4-g32"])
@pytest.mark.parametrize("inputs", [256, 200])
def test_rounds_as_the_native_engine_does(name: str, inputs: int) -> None:
    """Codes and scales of bfloat16 weights are equal, also where the last group is shorter."""
    form = QuantizationConfig.of(name).format("dense")
    values = torch.randn(64, inputs, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    values[3] = 0
    wanted = empty(64, inputs, form=form, dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(wanted, Quantized)
    quantize_into(wanted, values)
    with workers() as pool:
        found = quantize(values.view(torch.int16).numpy().view(ml_dtypes.bfloat16), form, pool)
    assert np.array_equal(found.codes, wanted.codes.numpy())
    assert np.array_equal(found.scale, wanted.scale.float().numpy())


@pytest.mark.parametrize("quantization", ["fp32", "int8/fp32", "int4/fp32"])
def test_what_is_not_finite_is_named(tiny: Tiny, monkeypatch: pytest.MonkeyPatch, quantization: str) -> None:
    """A NaN among the weights ends the export with the tensor's name."""
    checkpoint, name = tiny("llama"), "model.layers.0.self_attn.k_proj.weight"
    read = checkpoint.read

    def damaged(asked: str, index: int | None = None) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        values = read(asked, index)
        return np.full_like(values, np.nan) if asked == name else values

    monkeypatch.setattr(checkpoint, "read", damaged)
    files = text_weight_files(checkpoint, QuantizationConfig.of(quantization), kind="fast")
    with pytest.raises(CheckpointError, match=name):
        [list(file.values()) for file in files]


@pytest.mark.parametrize("quantization", ["bf16", "fp8/fp32"])
def test_schemes_that_cannot_be_exported_are_refused(quantization: str) -> None:
    """A precision that ONNX Runtime's processors cannot compute in is an error before anything is read."""
    with pytest.raises(ConfigurationError, match="Exports cannot hold"):
        parse_quantization(quantization)
