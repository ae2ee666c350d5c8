"""Products with matrices, norms and the SwiGLU in ONNX' standard operators."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from llama4sdk_onnx.export.graphs.builder import GraphBuilder

#: The first operator set whose DequantizeLinear knows blocks and 4-bit numbers.
MIN_BLOCKWISE_OPSET: Final = 21


def linear(b: GraphBuilder, x: ir.Value, name: str, inputs: int, expert: ir.Value | None = None) -> ir.Value:
    """[rows, in] -> [rows, out]; ``expert`` picks one of several matrices."""
    return b.op("Gemm", x, matrix(b, name, inputs, expert), transB=1)


def matrix(b: GraphBuilder, name: str, inputs: int, index: ir.Value | None = None) -> ir.Value:
    """The values of a matrix, [rows, in]; ``index`` picks one of several matrices, or some rows of one."""

    def part(suffix: str, dtype: ir.DataType | None = None) -> ir.Value:
        stored = b.weight(f"{name}.{suffix}", dtype=dtype)
        return stored if index is None else b.op("Gather", stored, index, axis=0)

    bits = b.bits(name)
    if bits is None:
        return part("weight")
    *_, blocks, width = b.shape(f"{name}.int{bits}")
    block = width * 8 // bits
    scales = part("scales")
    if index is None and b.opset >= MIN_BLOCKWISE_OPSET:
        rows, dtype = b.shape(f"{name}.int{bits}")[0], ir.DataType.INT4 if bits == 4 else ir.DataType.INT8
        codes = b.weight(f"{name}.int{bits}", (rows, blocks * block), dtype)
        values = b.op("DequantizeLinear", codes, scales, axis=1, block_size=block)
        grouped = b.reshape(values, [0, blocks, block])
    else:
        codes = part(f"int{bits}", ir.DataType.INT8 if bits == 8 else None)
        numbers = b.cast(codes if bits == 8 else _unpacked(b, codes, block), b.dtype)
        shifted = numbers if bits == 8 else b.op("Sub", numbers, b.constant(8, b.dtype))
        grouped = b.op("Mul", shifted, b.op("Unsqueeze", scales, b.constant([-1])))
    if f"{name}.minima" in b:
        grouped = b.op("Add", grouped, b.op("Unsqueeze", part("minima"), b.constant([-1])))
    flat = b.reshape(grouped, [0, blocks * block])
    if inputs == blocks * block:
        return flat
    return b.op("Slice", flat, b.constant([0]), b.constant([inputs]), b.constant([-1]))


def _unpacked(b: GraphBuilder, codes: ir.Value, block: int) -> ir.Value:
    """The codes in bytes, which count from 8: [rows, blocks, block / 2] -> [rows, blocks, block]."""
    flipped = b.op("BitwiseXor", codes, b.constant(0x88, np.uint8))
    low = b.op("BitwiseAnd", flipped, b.constant(15, np.uint8))
    high = b.op("BitShift", flipped, b.constant(4, np.uint8), direction="RIGHT")
    axis = b.constant([-1])
    pairs = b.op("Concat", b.op("Unsqueeze", low, axis), b.op("Unsqueeze", high, axis), axis=-1)
    return b.reshape(pairs, [0, 0, block])


def norm(b: GraphBuilder, x: ir.Value, eps: float, weight: str | None = None) -> ir.Value:
    """RMSNorm over the last axis in float32; times the weight, if there is one."""
    wide = x if b.dtype == np.float32 else b.cast(x, np.float32)
    mean = b.op("ReduceMean", b.op("Mul", wide, wide), b.constant([-1]), keepdims=1)
    root = b.op("Sqrt", b.op("Add", mean, b.constant(eps, np.float32)))
    normed = b.op("Div", wide, root)
    normed = normed if b.dtype == np.float32 else b.cast(normed, b.dtype)
    return normed if weight is None else b.op("Mul", normed, b.weight(weight))


def swiglu(
    b: GraphBuilder, x: ir.Value, name: str, hidden: int, inner: int, expert: ir.Value | None = None
) -> ir.Value:
    """[rows, hidden] -> [rows, hidden]; ``expert`` picks one of several."""
    gate, up = b.split(linear(b, x, f"{name}gate_up", hidden, expert), [inner, inner])
    active = b.op("Mul", gate, b.op("Sigmoid", gate))  # SiLU
    return linear(b, b.op("Mul", active, up), f"{name}down", inner, expert)
