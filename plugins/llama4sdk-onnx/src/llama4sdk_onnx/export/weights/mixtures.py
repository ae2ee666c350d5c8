"""The routed experts of a layer as parts of a piece.

ONNX Runtime's own operators want an expert's gate and up rows by turns, and both of its sides a multiple of the block:
rows and columns of zeros fill up the inner one. Plain operators get all gate rows, then all up rows.
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
from llama4sdk_onnx.export.weights.layouts import BLOCKS, Layout, block_size
from llama4sdk_onnx.export.weights.parts import Part, coded
from llama4sdk_onnx.export.weights.pieces import Array
from llama4sdk_onnx.export.weights.quantizing import Codes
from llama4sdk_onnx.export.weights.reading import Reader
from llama4sdk_onnx.manifest import Kind

__all__ = ["Experts"]

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Those of one layer. ``prefix`` begins their names in the checkpoint; ``fused``: whether they are one tensor."""

    reader: Reader
    config: TextConfig
    plan: QuantizationPlan
    kind: Kind
    dtype: np.dtype[np.generic]
    prefix: str
    fused: bool

    def parts(self, name: str) -> list[Part]:
        """Both matrices. Raises UnsupportedFeatureError where ONNX Runtime's operators cannot hold them."""
        c = self.config
        first, second = self._matrix_plans()
        quantized = not first.form.scheme.full_precision
        block = self._common_block(first, second) if quantized and self.kind == "fast" else 1
        inner = -(-c.expert_size // block) * block
        sides = (first, 2 * inner, c.hidden_size, self._gate_up), (second, c.hidden_size, inner, self._down)
        parts = []
        for part, (matrix_plan, rows, inputs, source) in zip(("gate_up", "down"), sides, strict=True):
            layout = Layout(
                name=f"{name}{part}",
                kind=self.kind,
                form=matrix_plan.form,
                dtype=self.dtype,
                rows=rows,
                inputs=inputs,
                block=block if block > 1 else block_size(matrix_plan.form, inputs) or 1,
                experts=c.num_experts,
            )
            parts.append(source(layout, keep_codes=matrix_plan.keep_codes))
        return parts

    def _matrix_plans(self) -> tuple[MatrixPlan, MatrixPlan]:
        """Both in codes, or none; without minima, and in groups that a block fits into."""
        c = self.config
        names = self._names(("gate", "up")), self._names(("down",))
        first, second = (self.plan.matrix_plan("experts", each) for each in names)
        wanted = MatrixPlan(self.plan.config.format("experts"), keep_codes=False)
        if wanted.form.scheme.full_precision:
            return first, second
        sides = (first, c.hidden_size), (second, c.expert_size)
        fit = [
            matrix_plan
            if not matrix_plan.form.scheme.full_precision
            and not matrix_plan.form.minimum
            and block_size(matrix_plan.form, inputs)
            else wanted
            for matrix_plan, inputs in sides
        ]
        return fit[0], fit[1]

    def _names(self, parts: Sequence[str]) -> list[str]:
        if self.fused:
            return [f"{self.prefix}experts.{'_'.join(parts)}_proj"]
        return expert_names(self.prefix, self.config.num_experts, parts)

    def _common_block(self, first: MatrixPlan, second: MatrixPlan) -> int:
        c = self.config
        sizes = (block_size(first.form, c.hidden_size), block_size(second.form, c.expert_size))
        limit = min(size for size in sizes if size is not None)
        found = next((block for block in BLOCKS if block <= limit and c.hidden_size % block == 0), None)
        if found is None:
            raise UnsupportedFeatureError(
                "onnx",
                f"quantized experts of hidden size {c.hidden_size} in a fast graph: it is no multiple of {BLOCKS[-1]}",
                hint="Export it with --portable, or without quantizing its experts.",
            )
        return found

    def _gate_up(self, layout: Layout, *, keep_codes: bool) -> Part:
        experts = range(self.config.num_experts)

        def values(pool: ThreadPoolExecutor) -> Iterator[Array]:
            if layout.form.scheme.full_precision:
                for expert in experts:
                    gate, up = (self._full(self._source(part, expert), layout) for part in ("gate", "up"))
                    yield self._paired(gate, up, layout, 0)
            else:
                yield from coded(
                    layout, (self._both(expert, layout, pool, keep_codes=keep_codes) for expert in experts)
                )

        return Part(layout.tensors, values, self._bytes("gate", "up"))

    def _down(self, layout: Layout, *, keep_codes: bool) -> Part:
        def values(pool: ThreadPoolExecutor) -> Iterator[Array]:
            sources = [self._source("down", expert) for expert in range(self.config.num_experts)]
            if layout.form.scheme.full_precision:
                for source in sources:
                    yield self._full(source, layout)
            else:
                yield from coded(
                    layout, (self._codes(source, layout, pool, keep_codes=keep_codes) for source in sources)
                )

        return Part(layout.tensors, values, self._bytes("down"))

    def _source(self, part: str, expert: int) -> _Source:
        """Where the checkpoint has one of an expert's three matrices."""
        if not self.fused:
            return _Source(f"{self.prefix}experts.{expert}.{part}_proj.weight", None, slice(None))
        if part == "down":
            return _Source(f"{self.prefix}experts.down_proj", expert, slice(None))
        inner = self.config.expert_size
        rows = slice(0, inner) if part == "gate" else slice(inner, None)
        return _Source(f"{self.prefix}experts.gate_up_proj", expert, rows)

    def _read(self, source: _Source) -> Array:
        return self.reader.values(source.name, source.expert)[source.rows]

    def _full(self, source: _Source, layout: Layout) -> Array:
        return np.concatenate(list(self.reader.full(source.name, self._read(source), layout.dtype)))

    def _codes(self, source: _Source, layout: Layout, pool: ThreadPoolExecutor, *, keep_codes: bool) -> Codes:
        if keep_codes:
            return self.reader.kept(source.name)
        parts = list(self.reader.rounded(source.name, self._read(source), layout.form, pool))
        return Codes(codes=np.concatenate([p.codes for p in parts]), scale=np.concatenate([p.scale for p in parts]))

    def _both(self, expert: int, layout: Layout, pool: ThreadPoolExecutor, *, keep_codes: bool) -> Codes:
        """Gate and up."""
        gate, up = (
            self._codes(self._source(part, expert), layout, pool, keep_codes=keep_codes) for part in ("gate", "up")
        )
        zero = 0x88 if layout.bits == 4 else 0
        return Codes(
            codes=self._paired(gate.codes, up.codes, layout, zero), scale=self._paired(gate.scale, up.scale, layout, 0)
        )

    def _paired(
        self, gate: npt.NDArray[Number], up: npt.NDArray[Number], layout: Layout, zero: int
    ) -> npt.NDArray[Number]:
        """Rows of both, [inner, ...] each, in the order the operators want."""
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
