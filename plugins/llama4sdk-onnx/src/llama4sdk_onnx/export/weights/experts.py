"""The routed experts of a layer in a file of weights.

ONNX Runtime's own operators take an expert's gate and up rows interleaved, and both of its sides a multiple of the
block: rows and columns of zeros fill up the inner one. Standard operators get all gate rows, then all up rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from llama4sdk.errors import UnsupportedFeatureError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.weights.quantization_plan import MatrixPlan, QuantizationPlan, expert_names
from llama4sdk_onnx.export.weights.matrix_layout import BLOCK_SIZES, MatrixLayout, block_size
from llama4sdk_onnx.export.weights.matrix_reader import MatrixReader
from llama4sdk_onnx.export.weights.quantize import Codes
from llama4sdk_onnx.export.weights.tensor_group import TensorGroup, code_arrays
from llama4sdk_onnx.export.weights.weight_file import Array
from llama4sdk_onnx.manifest import Kind

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """The experts of one layer. ``prefix`` begins their names in the checkpoint; ``fused`` ones are one tensor."""

    reader: MatrixReader
    config: TextConfig
    plan: QuantizationPlan
    kind: Kind
    dtype: np.dtype[np.generic]
    prefix: str
    fused: bool

    def groups(self, name: str) -> list[TensorGroup]:
        """Both matrices of all experts. Raises UnsupportedFeatureError where ONNX Runtime's operators cannot."""
        c = self.config
        first, second = self._matrix_plans()
        quantized = not first.form.scheme.full_precision
        block = self._common_block(first, second) if quantized and self.kind == "fast" else 1
        inner = -(-c.expert_size // block) * block
        sides = (first, 2 * inner, c.hidden_size, self._gate_up), (second, c.hidden_size, inner, self._down)
        groups = []
        for part, (matrix_plan, rows, inputs, source) in zip(("gate_up", "down"), sides, strict=True):
            layout = MatrixLayout(
                name=f"{name}{part}",
                kind=self.kind,
                form=matrix_plan.form,
                dtype=self.dtype,
                rows=rows,
                inputs=inputs,
                block=block if block > 1 else block_size(matrix_plan.form, inputs) or 1,
                experts=c.num_experts,
            )
            groups.append(source(layout, keep_codes=matrix_plan.keep_codes))
        return groups

    def _matrix_plans(self) -> tuple[MatrixPlan, MatrixPlan]:
        """The plans of both matrices: none in codes, or both, without minima and in groups that a block divides."""
        c = self.config
        names = self._names(("gate", "up")), self._names(("down",))
        first, second = (self.plan.matrix_plan("experts", each) for each in names)
        default = MatrixPlan(self.plan.config.format("experts"), keep_codes=False)
        if default.form.scheme.full_precision:
            return first, second
        sides = (first, c.hidden_size), (second, c.expert_size)
        plans = [
            matrix_plan
            if not matrix_plan.form.scheme.full_precision
            and not matrix_plan.form.minimum
            and block_size(matrix_plan.form, inputs)
            else default
            for matrix_plan, inputs in sides
        ]
        return plans[0], plans[1]

    def _names(self, parts: Sequence[str]) -> list[str]:
        if self.fused:
            return [f"{self.prefix}experts.{'_'.join(parts)}_proj"]
        return expert_names(self.prefix, self.config.num_experts, parts)

    def _common_block(self, first: MatrixPlan, second: MatrixPlan) -> int:
        c = self.config
        sizes = (block_size(first.form, c.hidden_size), block_size(second.form, c.expert_size))
        limit = min(size for size in sizes if size is not None)
        block = next((block for block in BLOCK_SIZES if block <= limit and c.hidden_size % block == 0), None)
        if block is None:
            raise UnsupportedFeatureError(
                "onnx",
                f"quantized experts of hidden size {c.hidden_size} in a fast graph: it is no multiple of "
                f"{BLOCK_SIZES[-1]}",
                hint="Export it with --portable, or without quantizing its experts.",
            )
        return block

    def _gate_up(self, layout: MatrixLayout, *, keep_codes: bool) -> TensorGroup:
        experts = range(self.config.num_experts)

        def values(pool: ThreadPoolExecutor) -> Iterator[Array]:
            if layout.form.scheme.full_precision:
                for expert in experts:
                    gate, up = (self._full(self._source(part, expert), layout) for part in ("gate", "up"))
                    yield self._joined(gate, up, layout, 0)
            else:
                yield from code_arrays(
                    layout, (self._gate_up_codes(expert, layout, pool, keep_codes=keep_codes) for expert in experts)
                )

        return TensorGroup(layout.tensors, values, self._bytes("gate", "up"))

    def _down(self, layout: MatrixLayout, *, keep_codes: bool) -> TensorGroup:
        def values(pool: ThreadPoolExecutor) -> Iterator[Array]:
            sources = [self._source("down", expert) for expert in range(self.config.num_experts)]
            if layout.form.scheme.full_precision:
                for source in sources:
                    yield self._full(source, layout)
            else:
                yield from code_arrays(
                    layout, (self._codes(source, layout, pool, keep_codes=keep_codes) for source in sources)
                )

        return TensorGroup(layout.tensors, values, self._bytes("down"))

    def _source(self, part: str, expert: int) -> _Source:
        """The location of one of an expert's three matrices in the checkpoint."""
        if not self.fused:
            return _Source(f"{self.prefix}experts.{expert}.{part}_proj.weight", None, slice(None))
        if part == "down":
            return _Source(f"{self.prefix}experts.down_proj", expert, slice(None))
        inner = self.config.expert_size
        rows = slice(0, inner) if part == "gate" else slice(inner, None)
        return _Source(f"{self.prefix}experts.gate_up_proj", expert, rows)

    def _read(self, source: _Source) -> Array:
        return self.reader.values(source.name, source.expert)[source.rows]

    def _full(self, source: _Source, layout: MatrixLayout) -> Array:
        return np.concatenate(list(self.reader.full_precision(source.name, self._read(source), layout.dtype)))

    def _codes(self, source: _Source, layout: MatrixLayout, pool: ThreadPoolExecutor, *, keep_codes: bool) -> Codes:
        if keep_codes:
            return self.reader.stored_codes(source.name)
        parts = list(self.reader.quantized(source.name, self._read(source), layout.form, pool))
        return Codes(codes=np.concatenate([p.codes for p in parts]), scale=np.concatenate([p.scale for p in parts]))

    def _gate_up_codes(self, expert: int, layout: MatrixLayout, pool: ThreadPoolExecutor, *, keep_codes: bool) -> Codes:
        """The codes of one expert's gate and up rows."""
        gate, up = (
            self._codes(self._source(part, expert), layout, pool, keep_codes=keep_codes) for part in ("gate", "up")
        )
        zero = 0x88 if layout.bits == 4 else 0
        return Codes(
            codes=self._joined(gate.codes, up.codes, layout, zero), scale=self._joined(gate.scale, up.scale, layout, 0)
        )

    def _joined(
        self, gate: npt.NDArray[Number], up: npt.NDArray[Number], layout: MatrixLayout, zero: int
    ) -> npt.NDArray[Number]:
        """The rows of both, [inner, ...] each, in the order that the operators take."""
        if self.kind == "portable":
            return np.concatenate((gate, up))
        out = np.full((layout.rows // 2, 2, gate.shape[1]), zero, gate.dtype)
        out[: len(gate), 0], out[: len(up), 1] = gate, up
        return out.reshape(layout.rows, -1)

    def _bytes(self, *parts: str) -> int:
        names = {self._source(part, expert).name for part in parts for expert in range(self.config.num_experts)}
        return sum(self.reader.info(name).nbytes for name in names)


class _Source(NamedTuple):
    """A matrix of the checkpoint, or one of several in a tensor, or some rows of that."""

    name: str
    expert: int | None
    rows: slice
