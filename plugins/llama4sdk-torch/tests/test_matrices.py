"""Quantized matrices against the definition of each scheme, written out in float64."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from llama4sdk_torch.quantized import INT4_EXTREME_STEPS, Quantized, empty, linear, lookup, pick, quantize_into
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from llama4sdk.quantization import MatrixFormat, Quantization, QuantizationConfig

INT8, FP8 = MatrixFormat(scheme=Quantization.INT8), MatrixFormat(scheme=Quantization.FP8)
FORMS = {name: QuantizationConfig.of(name).format("dense") for name in ("int8", "fp8", "int4-g32", "int4-g128")}

shapes = st.tuples(st.integers(1, 9), st.integers(1, 150))


def quantized(values: Tensor, form: MatrixFormat, dtype: torch.dtype = torch.float32) -> Quantized:
    """``values`` [out, in], rounded."""
    target = empty(*values.shape, form=form, dtype=dtype, device=values.device)
    assert isinstance(target, Quantized)
    quantize_into(target, values)
    return target


def weights(shape: tuple[int, ...], seed: int, spread: float = 0.02) -> Tensor:
    """Values as weights have them, with a row of zeros."""
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread
    values[..., 0, :] = 0
    return values


def decoded(matrix: Quantized) -> Tensor:
    """Every value of one matrix, one by one, in float64."""
    rows, inputs = matrix.codes.shape[0], matrix.inputs
    group = matrix.form.group_size or inputs
    out = torch.zeros(rows, inputs, dtype=torch.float64)
    for row, column in itertools.product(range(rows), range(inputs)):
        if matrix.form.scheme is Quantization.INT4:
            code = int(matrix.codes[row, column // 2]) >> 4 * (column % 2) & 15
            number = code if matrix.minimum is not None else code - 8
        else:
            number = float(matrix.codes[row, column].float())
        out[row, column] = number * float(matrix.scale[row, column // group])
        if matrix.minimum is not None:
            out[row, column] += float(matrix.minimum[row, column // group])
    return out


@pytest.mark.parametrize("name", FORMS)
@given(shape=shapes, seed=st.integers(0, 2**16), spread=st.sampled_from([1e-4, 0.02, 3.0]))
@settings(max_examples=25, deadline=None)
def test_values_are_codes_times_scales(name: str, shape: tuple[int, int], seed: int, spread: float) -> None:
    """Whatever the shape, whole groups or not: what is computed with is what the codes say, in the dtype asked for."""
    matrix = quantized(weights(shape, seed, spread), FORMS[name])
    assert matrix.nbytes == FORMS[name].bytes(*shape)
    torch.testing.assert_close(matrix.dense().double(), decoded(matrix), rtol=1e-6, atol=0)
    half = quantized(weights(shape, seed, spread), FORMS[name], torch.bfloat16)
    assert torch.equal(half.dense(), matrix.dense().bfloat16())


@given(shape=shapes, seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_int8_is_within_half_a_step(shape: tuple[int, int], seed: int) -> None:
    """A row's largest weight is 127 steps; no weight is further off than half of one."""
    values = weights(shape, seed)
    steps = values.double().abs().amax(1, keepdim=True) / 127
    error = (decoded(quantized(values, INT8)) - values.double()).abs()
    assert (error <= steps * (0.5 + 1e-4)).all()


def test_every_fp8_code_is_its_number() -> None:
    """All 254 codes that are numbers, subnormal ones and both zeros among them, mean what torch says they mean."""
    codes = torch.tensor([n for n in range(256) if n & 0x7F != 0x7F], dtype=torch.uint8).view(torch.float8_e4m3fn)
    matrix = Quantized(form=FP8, inputs=254, dtype=torch.float32, codes=codes.unsqueeze(0), scale=torch.ones(1, 1))
    assert torch.equal(matrix.dense()[0], codes.float())


@given(shape=shapes, seed=st.integers(0, 2**16))
@settings(max_examples=25, deadline=None)
def test_fp8_is_within_its_three_bits(shape: tuple[int, int], seed: int) -> None:
    """A row's largest weight is 448 steps; others are within a sixteenth, the small ones within half of 2^-9 steps."""
    values = weights(shape, seed).double()
    steps = values.abs().amax(1, keepdim=True) / 448
    error = (decoded(quantized(values.float(), FP8)) - values).abs()
    assert (error <= torch.maximum(values.abs() / 16, steps * 2**-10) * (1 + 1e-4)).all()


@pytest.mark.parametrize("group", [32, 64, 128])
@given(shape=shapes, seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_int4_takes_the_best_scale_of_each_group(group: int, shape: tuple[int, int], seed: int) -> None:
    """Each group's weighted error is the least that any of the scales tried can give; a short last group's, too."""
    values = weights(shape, seed)
    form = MatrixFormat(scheme=Quantization.INT4, group_size=group, scale=Quantization.BF16)
    error = (decoded(quantized(values, form)) - values.double()).square() * values.double().abs()
    for row, start in itertools.product(range(shape[0]), range(0, shape[1], group)):
        part = values[row, start : start + group].double()
        extreme = float(part[part.abs().argmax()])
        scales = [float(torch.tensor(-extreme / steps).bfloat16()) for steps in INT4_EXTREME_STEPS]
        trials = [
            (((part / scale).round().clamp(-8, 7) * scale - part).square() * part.abs()).sum().item() if scale else 0.0
            for scale in scales
        ]
        assert math.isclose(error[row, start : start + group].sum(), min(trials), rel_tol=1e-4, abs_tol=1e-12)


@pytest.mark.parametrize("name", FORMS)
def test_finer_schemes_are_nearer(name: str) -> None:
    """Relative error on normal weights: under 1 % in int8, 3 % in fp8, 12 % in int4, less with smaller groups."""
    values = torch.randn(64, 512, generator=torch.Generator().manual_seed(1))
    error = (quantized(values, FORMS[name]).dense() - values).norm() / values.norm()
    assert error < {"int8": 0.01, "fp8": 0.03, "int4-g32": 0.085, "int4-g128": 0.12}[name]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_those_of_the_values(name: str, dtype: torch.dtype) -> None:
    """A product with codes equals ``F.linear`` with what they stand for, bit for bit."""
    matrix = quantized(weights((70, 100), 2), FORMS[name], dtype)
    x = torch.randn(3, 5, 100).to(dtype)
    assert torch.equal(linear(x, matrix), F.linear(x, matrix.dense()))


@pytest.mark.parametrize("name", FORMS)
def test_experts_and_rows_are_picked_out(name: str) -> None:
    """One of several matrices, and single rows, are the same by view, by copy and by look-up."""
    values = weights((3, 6, 50), 3)
    stack = empty(3, 6, 50, form=FORMS[name], dtype=torch.float32, device=torch.device("cpu"))
    assert isinstance(stack, Quantized)
    for number in range(3):
        quantize_into(stack[number], values[number])
    whole = stack.dense()
    assert torch.equal(stack[1].dense(), whole[1])
    chosen = pick(stack, torch.tensor([2]))
    assert isinstance(chosen, Quantized)
    assert torch.equal(chosen.dense(), whole[2])
    rows = torch.tensor([[0, 5], [3, 3]])
    assert torch.equal(lookup(rows, stack[0]), whole[0][rows])


def test_large_matrices_go_in_pieces() -> None:
    """A matrix of more rows than are rounded at once is the same as its rows one by one."""
    values = weights((1500, 1024), 4)
    for form in FORMS.values():
        matrix = quantized(values, form)
        rows = torch.stack([quantized(row.unsqueeze(0), form).dense()[0] for row in values[::500]])
        assert torch.equal(matrix.dense()[::500], rows)
