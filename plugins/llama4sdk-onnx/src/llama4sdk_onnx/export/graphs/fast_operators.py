"""Operators of a fast graph: products with matrices in any precision, norms and the SwiGLU."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from llama4sdk_onnx.export.graphs.builder import Attribute, GraphBuilder

#: ONNX Runtime's ``accuracy_level`` of products with codes: activations are rounded to int8, block by block.
ACCURACY_LEVEL: Final = 4

#: The step of a block of zeros; fp16 has a number for it, too.
MIN_STEP: Final = 1e-7


def linear(b: GraphBuilder, x: ir.Value, name: str, inputs: int) -> ir.Value:
    """[..., in] -> [..., out]."""
    bits = b.bits(name)
    if bits is None:
        return b.op("FusedMatMul", x, b.weight(f"{name}.weight"), transB=1)
    rows, _, width = b.shape(f"{name}.int{bits}")
    block = width * 8 // bits
    minima = f"{name}.minima" in b
    # GPUs do not round activations.
    precise = (bits == 8 or minima) and b.dtype == np.float32 and inputs % block == 0
    rows_in = _int8_and_rest(b, x, inputs, block) if precise else x
    codes, scales = b.weight(f"{name}.int{bits}"), b.weight(f"{name}.scales")
    attributes: dict[str, Attribute] = {"K": inputs, "N": rows, "bits": bits, "block_size": block}
    y = b.op("MatMulNBits", rows_in, codes, scales, **attributes, accuracy_level=ACCURACY_LEVEL)
    if precise:
        y = b.op("ReduceSum", y, b.constant([0]), keepdims=0)
    if not minima:
        return y
    return b.op("Add", y, b.op("MatMul", _block_sums(b, x, block), b.weight(f"{name}.minima")))


def _int8_and_rest(b: GraphBuilder, x: ir.Value, inputs: int, block: int) -> ir.Value:
    """The activations rounded to int8 block by block, and the rest: [..., in] -> [2, ..., in].

    Codes of 8 bits, and a checkpoint's own with minima, deserve activations of more than 8 bits. Both rows go through
    one product, so weights are read once. The operator's own rounding leaves the first row as it is, since the largest
    value of each block is 127 steps.
    """
    grouped = b.once("Reshape", x, b.constant([-1, inputs // block, block]))
    largest = b.once("ReduceMax", b.once("Abs", grouped), b.constant([-1]), keepdims=1)
    step = b.once("Max", b.once("Mul", largest, b.constant(1 / 127, b.dtype)), b.constant(MIN_STEP, b.dtype))
    rounded = b.once("Mul", b.once("Round", b.once("Div", grouped, step)), step)
    rest = b.once("Sub", grouped, rounded)
    both = b.once("Concat", rounded, rest, axis=0)
    shape = b.once("Concat", b.constant([2]), b.once("Shape", x), axis=0)
    return b.once("Reshape", both, shape)


def _block_sums(b: GraphBuilder, x: ir.Value, block: int) -> ir.Value:
    """The sum of each block of inputs, [..., in] -> [..., blocks]."""
    return b.once("ReduceSum", b.once("Reshape", x, b.constant([0, 0, -1, block])), b.constant([-1]), keepdims=0)


def embedding_rows(b: GraphBuilder, ids: ir.Value, name: str, inputs: int) -> ir.Value:
    """The rows of an embedding in codes: [batch, tokens] -> [batch, tokens, in]."""
    bits = b.bits(name)
    rows, blocks, width = b.shape(f"{name}.int{bits}")
    block = width * 8 // (bits or 8)
    data, scales = b.weight(f"{name}.int{bits}", (rows, blocks * width)), b.weight(f"{name}.scales")
    values = b.op(
        "GatherBlockQuantized", data, ids, scales, bits=bits or 8, block_size=block, gather_axis=0, quantize_axis=1
    )
    if f"{name}.minima" in b:
        minima = b.op("Unsqueeze", b.op("Gather", b.weight(f"{name}.minima"), ids, axis=1), b.constant([-1]))
        moved = b.op("Transpose", minima, perm=[1, 2, 0, 3])  # [batch, tokens, blocks, 1]
        values = b.reshape(b.op("Add", b.reshape(values, [0, 0, blocks, block]), moved), [0, 0, blocks * block])
    if inputs == blocks * block:
        return values
    return b.op("Slice", values, b.constant([0]), b.constant([inputs]), b.constant([-1]))


def norm(b: GraphBuilder, x: ir.Value, weight: ir.Value, eps: float) -> ir.Value:
    """RMSNorm over the last axis."""
    return b.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=eps)


def skip_norm(
    b: GraphBuilder, x: ir.Value, residual: ir.Value, weight: ir.Value, eps: float
) -> tuple[ir.Value, ir.Value]:
    """The norm of the sum of both, and the sum."""
    normed, mean, deviation, total = b.ops(
        "SkipSimplifiedLayerNormalization", x, residual, weight, outputs=4, epsilon=eps
    )
    mean.name = deviation.name = ""
    return normed, total


def swiglu(b: GraphBuilder, x: ir.Value, name: str, hidden: int, inner: int) -> ir.Value:
    """[..., hidden] -> [..., hidden]."""
    gate, up = b.split(linear(b, x, f"{name}gate_up", hidden), [inner, inner])
    active = b.op("QuickGelu", gate, alpha=1.0)  # SiLU
    return linear(b, b.op("Mul", active, up), f"{name}down", inner)
