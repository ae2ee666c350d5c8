"""A graph under construction: nodes that are added one by one, over weights that lie in files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from itertools import count
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.tape import Tape

from llama4sdk_onnx.export.weights.weight_file import WeightFile

#: The first version of the file format that has the operator sets we write, and 4-bit numbers.
IR_VERSION: Final = 10

#: The domain of ONNX Runtime's own operators.
MICROSOFT: Final = "com.microsoft"

MICROSOFT_OPERATORS: Final = frozenset(
    {
        "FusedMatMul",
        "GatherBlockQuantized",
        "GroupQueryAttention",
        "MatMulNBits",
        "MoE",
        "MultiHeadAttention",
        "QMoE",
        "QuickGelu",
        "SkipSimplifiedLayerNormalization",
    }
)

Attribute: TypeAlias = int | float | str | Sequence[int] | ir.Graph


class GraphBuilder:
    """Adds nodes in the order of its calls; initializers come from the files ``weights``."""

    def __init__(self, weights: Iterable[WeightFile], dtype: np.dtype[np.generic], opset: int) -> None:
        #: The type of activations.
        self.dtype = dtype
        self.opset = opset
        self._tape = Tape()
        self._locations = {
            stored.name: (file.path, offset, stored) for file in weights for stored, offset in file.offsets()
        }
        self._initializers: dict[object, ir.Value] = {}
        self._shared: dict[object, ir.Value] = {}
        self._numbers = count()

    @property
    def nodes(self) -> Sequence[ir.Node]:
        """The nodes added so far."""
        return self._tape.nodes

    def __contains__(self, name: str) -> bool:
        """Whether there are weights of this name."""
        return name in self._locations

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of these weights as they are stored."""
        *_, stored = self._locations[name]
        return stored.shape

    def weight(self, name: str, shape: Sequence[int] | None = None, dtype: ir.DataType | None = None) -> ir.Value:
        """Weights, which stay in their file; ``shape`` and ``dtype`` reinterpret their bytes."""
        path, offset, stored = self._locations[name]
        key = (name, None if shape is None else tuple(shape), dtype)
        if key not in self._initializers:
            tensor = ir.ExternalTensor(
                path,
                offset,
                stored.nbytes,
                dtype or ir.DataType.from_numpy(stored.dtype),
                shape=ir.Shape(stored.shape if shape is None else shape),
                name=name if shape is None else f"{name}.{'x'.join(map(str, shape))}",
            )
            self._initializers[key] = _initializer(tensor)
        return self._initializers[key]

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> ir.Value:
        """A small tensor in the graph itself, shared by equal ones."""
        array = np.array(values, dtype)
        key = (array.tobytes(), array.dtype.str, array.shape)
        if key not in self._initializers:
            self._initializers[key] = _initializer(ir.Tensor(array, name=f"constant.{len(self._initializers)}"))
        return self._initializers[key]

    def bits(self, name: str) -> int | None:
        """The bits of these weights' codes; ``None`` for full precision."""
        return next((bits for bits in (4, 8) if f"{name}.int{bits}" in self), None)

    def inner(self) -> GraphBuilder:
        """A builder of a graph within this one, which shares its initializers."""
        inner = copy(self)
        inner._tape = Tape()
        inner._shared = {}
        return inner

    def graph(self, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Graph:
        """The nodes as a graph within another, which has the initializers."""
        return ir.Graph(inputs, outputs, nodes=self.nodes, name="inner")

    def model(self, name: str, inputs: Sequence[ir.Value], outputs: Sequence[ir.Value]) -> ir.Model:
        """The nodes as a graph of its own, with the initializers that some node takes."""
        versions = {"": self.opset, MICROSOFT: 1}
        domains = {"", *(node.domain for node in self.nodes)}
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=self.nodes,
            initializers=list(self._initializers.values()),
            opset_imports={domain: version for domain, version in versions.items() if domain in domains},
            name=name,
        )
        return ir.Model(graph, ir_version=IR_VERSION, producer_name="llama4sdk")

    def op(self, kind: str, *inputs: ir.Value | None, **attributes: Attribute) -> ir.Value:
        """A node with one output."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: ir.Value | None, outputs: int, **attributes: Attribute) -> Sequence[ir.Value]:
        """A node with several outputs; one that is not wanted can be named ``""``."""
        values = [ir.Value(name=self._name()) for _ in range(outputs)]
        domain = MICROSOFT if kind in MICROSOFT_OPERATORS else ""
        self._tape.op_multi_out(kind, inputs, attributes, outputs=values, domain=domain)
        return values

    def value(self, dtype: npt.DTypeLike, *shape: int | str) -> ir.Value:
        """An input of a graph within this one."""
        return graph_value(self._name(), dtype, *shape)

    def _name(self) -> str:
        """A name that no value has in this graph or those within."""
        return f"value.{next(self._numbers)}"

    def once(self, kind: str, *inputs: ir.Value, **attributes: Attribute) -> ir.Value:
        """A node with one output; an equal node that was added with this method is used again."""
        key = (kind, *map(id, inputs))
        if key not in self._shared:
            self._shared[key] = self.op(kind, *inputs, **attributes)
        return self._shared[key]

    def split(self, x: ir.Value, sizes: Sequence[int], axis: int = -1) -> Sequence[ir.Value]:
        """Split along an axis, by default the last."""
        return self.ops("Split", x, self.constant(sizes), outputs=len(sizes), axis=axis)

    def reshape(self, x: ir.Value, shape: Sequence[int]) -> ir.Value:
        """Reshape; 0 keeps the size of an axis, -1 takes what is left."""
        return self.op("Reshape", x, self.constant(shape))

    def cast(self, x: ir.Value, dtype: npt.DTypeLike) -> ir.Value:
        """Convert to another type of numbers."""
        return self.op("Cast", x, to=ir.DataType.from_numpy(np.dtype(dtype)))


def graph_value(name: str, dtype: npt.DTypeLike, *shape: int | str) -> ir.Value:
    """A named value with a type and a shape: an input or output of a graph."""
    return name_output(ir.Value(), name, dtype, *shape)


def name_output(value: ir.Value, name: str, dtype: npt.DTypeLike, *shape: int | str) -> ir.Value:
    """Give a value the name, the type and the shape of a graph's output."""
    value.name, value.shape = name, ir.Shape(shape)
    value.type = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
    return value


def _initializer(tensor: ir.ExternalTensor | ir.Tensor[Any]) -> ir.Value:
    return ir.Value(name=tensor.name, type=ir.TensorType(tensor.dtype), shape=tensor.shape, const_value=tensor)
