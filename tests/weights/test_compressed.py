"""Checkpoints quantized by the compressed-tensors package are read as that package reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import torch
from compressed_tensors.compressors.naive_quantized import FloatQuantizationCompressor, IntQuantizationCompressor
from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.utils import calculate_qparams

from llama4sdk.errors import CheckpointError
from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import HF_CONFIG, Array, hf_tensors, unfused, write_hf

KINDS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "fp8": ("float-quantized", FloatQuantizationCompressor, {"num_bits": 8, "type": "float", "strategy": "channel"}),
    "int8": ("int-quantized", IntQuantizationCompressor, {"num_bits": 8, "type": "int", "strategy": "channel"}),
    "w4a16": ("pack-quantized", PackedQuantizationCompressor, {"num_bits": 4, "strategy": "group", "group_size": 8}),
    "w4a16-asymmetric": (
        "pack-quantized",
        PackedQuantizationCompressor,
        {"num_bits": 4, "strategy": "group", "group_size": 8, "symmetric": False},
    ),
    "w8a16": ("pack-quantized", PackedQuantizationCompressor, {"num_bits": 8, "strategy": "channel"}),
}
NAME = "model.layers.1.feed_forward.experts.2.gate_proj.weight"


def _compressed(values: Array, compressor: Any, arguments: dict[str, Any]) -> tuple[dict[str, Array], Array]:
    """The tensors that the package stores for a weight, and the values it reads back, named after the module."""
    args = QuantizationArgs(**arguments)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    weight = torch.from_numpy(values.astype(np.float32))
    groups = weight.reshape(len(weight), -1, args.group_size or weight.shape[1])
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args)
    state = {"weight": weight, "weight_scale": scale, "weight_zero_point": zero}
    stored = compressor.compress(state, scheme)
    back = compressor.decompress(dict(stored), scheme)["weight"].numpy()
    return {key: _to_numpy(tensor) for key, tensor in stored.items()}, back


def _to_numpy(tensor: torch.Tensor) -> Array:
    if tensor.dtype == torch.float8_e4m3fn:
        floats: Array = tensor.view(torch.uint8).numpy().view(ml_dtypes.float8_e4m3fn)
        return floats
    return tensor.numpy()


def _config(form: str, **more: object) -> dict[str, object]:
    quantization = {"quant_method": "compressed-tensors", "format": form, "config_groups": {}, "ignore": ["lm_head"]}
    return HF_CONFIG | {"quantization_config": quantization | more}


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_package(tmp_path: Path, kind: str) -> None:
    """Every routed expert, in each format, has the values that compressed-tensors itself decompresses."""
    form, compressor, arguments = KINDS[kind]
    tensors, expected = dict[str, Array](), dict[str, npt.NDArray[Any]]()
    for name, values in unfused(hf_tensors()).items():
        if ".experts." in name:
            stored, expected[name] = _compressed(values, compressor, arguments)
            tensors |= {f"{name.removesuffix('weight')}{key}": part for key, part in stored.items()}
        else:
            tensors[name] = values
    checkpoint = open_checkpoint(write_hf(tmp_path / kind, tensors, _config(form)))
    checkpoint.verify()
    assert len(expected) == 24
    for name, values in expected.items():
        assert checkpoint.read(name).dtype == np.float32
        np.testing.assert_allclose(checkpoint.read(name).astype(float), values.astype(float), rtol=1e-6, atol=1e-7)
    assert checkpoint.tensors[NAME].dtype == {"fp8": "F8_E4M3", "int8": "I8", "w8a16": "I8"}.get(kind, "I4")


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_stored(tmp_path: Path, kind: str) -> None:
    """Codes and scales are returned as stored, and mean the same values; zero points have no stored form."""
    form, compressor, arguments = KINDS[kind]
    values = unfused(hf_tensors())
    stored, _ = _compressed(values.pop(NAME), compressor, arguments)
    parts = {f"{NAME.removesuffix('weight')}{key}": part for key, part in stored.items()}
    checkpoint = open_checkpoint(write_hf(tmp_path / kind, values | parts, _config(form)))
    stored_form = checkpoint.stored_form(NAME)
    assert checkpoint.stored_form("model.norm.weight") is None
    if kind == "w4a16-asymmetric":
        assert stored_form is None
        return
    assert stored_form is not None
    tensor = checkpoint.read_quantized(NAME)
    assert tensor.form == stored_form
    assert tensor.finite
    np.testing.assert_array_equal(tensor.scale, parts[f"{NAME}_scale"])
    codes = tensor.codes
    if stored_form.scheme == "int4":
        codes = np.stack((codes.view(np.uint8) & 15, codes.view(np.uint8) >> 4), axis=-1).reshape(
            len(codes), -1
        ).astype(np.int8) - np.int8(8)
    grouped = codes.astype(np.float32).reshape(len(codes), tensor.scale.shape[1], -1)
    dequantized = (grouped * tensor.scale.astype(np.float32)[:, :, None]).reshape(len(codes), -1)
    np.testing.assert_array_equal(dequantized, checkpoint.read(NAME))
    if form != "pack-quantized":
        np.testing.assert_array_equal(tensor.codes.view(np.uint8), parts[NAME].view(np.uint8))


def test_a_scale_of_the_whole_tensor_serves_every_row(tmp_path: Path) -> None:
    """A scale per tensor is repeated per output channel; scales of blocks have no stored form."""
    weight = np.ones((32, 32), ml_dtypes.float8_e4m3fn)
    for scale, rows in ((np.full(1, 2, np.float32), 32), (np.full((), 2, np.float32), 32), (np.ones((4, 4)), 0)):
        parts = {NAME: weight, f"{NAME}_scale": scale.astype(np.float32)}
        folder = write_hf(tmp_path / str(scale.shape), unfused(hf_tensors()) | parts, _config("float-quantized"))
        checkpoint = open_checkpoint(folder)
        if rows:
            np.testing.assert_array_equal(checkpoint.read_quantized(NAME).scale, np.full((32, 1), 2, np.float32))
        else:
            assert checkpoint.stored_form(NAME) is None


def test_codes_that_are_no_numbers_are_seen(tmp_path: Path) -> None:
    """A NaN among 8-bit floats, or an infinite scale, is not finite."""
    for code, scale in ((np.nan, 1.0), (1.0, np.inf)):
        weight = np.ones((32, 32), np.float32)
        weight[3, 5] = code
        parts: dict[str, Array] = {
            NAME: weight.astype(ml_dtypes.float8_e4m3fn),
            f"{NAME}_scale": np.full((32, 1), scale, np.float32),
        }
        folder = write_hf(tmp_path / str(scale), unfused(hf_tensors()) | parts, _config("float-quantized"))
        assert not open_checkpoint(folder).read_quantized(NAME).finite


@pytest.mark.parametrize(
    ("form", "more", "name"),
    [
        ("nvfp4-pack-quantized", {}, "nvfp4-pack-quantized"),
        ("dense", {"quant_method": "bitsandbytes"}, "bitsandbytes"),
        ("float-quantized", {"quant_method": "fp8"}, "fp8"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path: Path, form: str, more: dict[str, object], name: str) -> None:
    """An unsupported quantization is named, with the supported ones."""
    with pytest.raises(CheckpointError, match=name) as raised:
        open_checkpoint(write_hf(tmp_path / "odd", hf_tensors(), _config(form, **more)))
    assert "pack-quantized" in str(raised.value.hint)


PARTS: dict[str, Array] = {
    "_packed": np.zeros((32, 4), np.int32),
    "_scale": np.ones((32, 4), np.float32),
    "_shape": np.array([32, 32], np.int64),
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"_shape": np.array([32, 10**12], np.int64)}, "columns"),
        ({"_shape": np.array([32], np.int64)}, "pair of numbers"),
        ({"_packed": np.zeros((31, 4), np.int32)}, "31 rows"),
        ({"_packed": np.zeros((32, 4), np.int8)}, "I8"),
        ({"_scale": np.ones((32, 5), np.float32)}, "fit together"),
        ({"_scale": np.ones((4, 4), np.float32)}, "fit together"),
        ({"_g_idx": np.full(32, 9, np.int32)}, "fit together"),
    ],
)
def test_parts_that_do_not_fit_are_named(tmp_path: Path, change: dict[str, Array], problem: str) -> None:
    """Contradicting packed words, scales, shape and order raise an error that names the tensor."""
    tensors = unfused(hf_tensors())
    del tensors[NAME]
    tensors |= {f"{NAME}{kind}": part for kind, part in (PARTS | change).items()}
    with pytest.raises(CheckpointError, match=problem) as raised:
        open_checkpoint(write_hf(tmp_path / "odd", tensors, _config("pack-quantized"))).read(NAME)
    assert "experts.2.gate_proj" in raised.value.message


def test_a_scale_decides_not_the_list_of_ignored_modules(tmp_path: Path) -> None:
    """A single quantized expert among plain ones loads, and scales of activations are ignored."""
    values = unfused(hf_tensors())[NAME]
    eighth = (values.astype(np.float32) * 0.125).astype(ml_dtypes.float8_e4m3fn)
    module = NAME.removesuffix("weight")
    parts: dict[str, Array] = {
        NAME: eighth,
        f"{module}weight_scale": np.full((32, 1), 8, ml_dtypes.bfloat16),
        f"{module}input_scale": np.ones(1, np.float32),
    }
    checkpoint = open_checkpoint(write_hf(tmp_path / "one", unfused(hf_tensors()) | parts, _config("naive-quantized")))
    checkpoint.verify()
    np.testing.assert_array_equal(checkpoint.read(NAME), eighth.astype(np.float32) * 8)
    assert checkpoint.dtype == "BF16"
