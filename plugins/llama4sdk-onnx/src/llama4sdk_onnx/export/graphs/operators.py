"""What all layers of a fast graph are made of: products with matrices however they are held, norms, the SwiGLU."""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx_ir as ir

from llama4sdk_onnx.export.graphs.building import Attribute, Builder

__all__ = ["ACCURACY", "linear", "looked_up", "norm", "skip_norm", "swiglu"]

#: ONNX Runtime's ``accuracy_level`` of products with codes: activations are rounded to int8, block by block.
ACCURACY: Final = 4


#: The least step, where all of a block is zero; fp16 has it too.
TINY: Final = 1e-7


def linear(b: Builder, x: ir.Value, name: str, inputs: int) -> ir.Value:
    """[..., in] -> [..., out]."""
    bits = b.bits(name)
    if bits is None:
        return b.op("FusedMatMul", x, b.weight(f"{name}.weight"), transB=1)
    rows, _, width = b.shape(f"{name}.int{bits}")
    block = width * 8 // bits
    attributes: dict[str, Attribute] = {"K": inputs, "N": rows, "bits": bits, "block_size": block}
    minima = f"{name}.minima" in b
    # GPUs do not round activations.
    precise = (bits == 8 or minima) and b.dtype == np.float32 and inputs % block == 0
    taken = _halves(b, x, inputs, block) if precise else x
    y = b.op(
        "MatMulNBits",
        taken,
        b.weight(f"{name}.int{bits}"),
        b.weight(f"{name}.scales"),
        **attributes,
        accuracy_level=ACCURACY,
    )
    if precise:
        y = b.op("ReduceSum", y, b.constant([0]), keepdims=0)
    if not minima:
        return y
    return b.op("Add", y, b.op("MatMul", _sums(b, x, block), b.weight(f"{name}.minima")))


def _halves(b: Builder, x: ir.Value, inputs: int, block: int) -> ir.Value:
    """What of ``x`` int8 can hold, block by block, and the rest: [..., in] -> [2, ..., in].

    Codes of 8 bits, and a checkpoint's own with minima, deserve activations of more than 8. Both rows go through one
    product, so weights are read once; the first is rounded there to what it is already, as its blocks' largest values
    are 127 steps.
    """
    grouped = b.once("Reshape", x, b.constant([-1, inputs // block, block]))
    largest = b.once("ReduceMax", b.once("Abs", grouped), b.constant([-1]), keepdims=1)
    step = b.once("Max", b.once("Mul", largest, b.constant(1 / 127, b.dtype)), b.constant(TINY, b.dtype))
    held = b.once("Mul", b.once("Round", b.once("Div", grouped, step)), step)
    rest = b.once("Sub", grouped, held)
    both = b.once("Concat", held, rest, axis=0)
    shape = b.once("Concat", b.constant([2]), b.once("Shape", x), axis=0)
    return b.once("Reshape", both, shape)


def _sums(b: Builder, x: ir.Value, block: int) -> ir.Value:
    """Of each block of inputs, [..., blocks]."""
    return b.once("ReduceSum", b.once("Reshape", x, b.constant([0, 0, -1, block])), b.constant([-1]), keepdims=0)


def looked_up(b: Builder, ids: ir.Value, name: str, inputs: int) -> ir.Value:
    """The rows of a matrix in codes: [batch, tokens] -> [batch, tokens, in]."""
    bits = b.bits(name)
    rows, blocks, width = b.shape(f"{name}.int{bits}")
    block = width * 8 // (bits or 8)
    data, scales = b.weight(f"{name}.int{bits}", (rows, blocks * width)), b.weight(f"{name}.scales")
    attributes: dict[str, Attribute] = {"bits": bits or 8, "block_size": block, "gather_axis": 0, "quantize_axis": 1}
    values = b.op("GatherBlockQuantized", data, ids, scales, **attributes)
    if f"{name}.minima" in b:
        minima = b.op("Unsqueeze", b.op("Gather", b.weight(f"{name}.minima"), ids, axis=1), b.constant([-1]))
        moved = b.op("Transpose", minima, perm=[1, 2, 0, 3])  # [batch, tokens, blocks, 1]
        values = b.reshape(b.op("Add", b.reshape(values, [0, 0, blocks, block]), moved), [0, 0, blocks * block])
    if inputs == blocks * block:
        return values
    return b.op("Slice", values, b.constant([0]), b.constant([inputs]), b.constant([-1]))


def norm(b: Builder, x: ir.Value, weight: ir.Value, eps: float) -> ir.Value:
    """Divided by the root mean square of the last axis, times the weight."""
    return b.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=eps)


def skip_norm(b: Builder, x: ir.Value, residual: ir.Value, weight: ir.Value, eps: float) -> tuple[ir.Value, ir.Value]:
    """The norm of the sum, and the sum."""
    normed, *_, whole = b.ops(
        "SkipSimplifiedLayerNormalization", [x, residual, weight], 4, {"epsilon": eps}, unused=(1, 2)
    )
    return normed, whole


def swiglu(b: Builder, x: ir.Value, name: str, hidden: int, inner: int) -> ir.Value:
    """[..., hidden] -> [..., hidden]."""
    gate, up = b.split(linear(b, x, f"{name}gate_up", hidden), [inner, inner])
    active = b.op("QuickGelu", gate, alpha=1.0)  # SiLU
    return linear(b, b.op("Mul", active, up), f"{name}down", inner)
