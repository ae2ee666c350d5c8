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
        return [
            self._group(f"{name}gate_up", ("gate", "up"), first, (2 * inner, c.hidden_size), block),
            self._group(f"{name}down", ("down",), second, (c.hidden_size, inner), block),
        ]

    def _matrix_plans(self) -> list[MatrixPlan]:
        """The plans of both matrices: none in codes, or both, without minima and in groups that a block divides."""
        plans = [self.plan.matrix_plan("experts", self._names(parts)) for parts in (("gate", "up"), ("down",))]
        default = MatrixPlan(self.plan.config.format("experts"), keep_codes=False)
        if default.form.scheme.full_precision:
            return plans
        forms = ((plan.form, inputs) for plan, inputs in zip(plans, self._inputs, strict=True))
        fits = [
            not form.scheme.full_precision and not form.minimum and block_size(form, inputs) for form, inputs in forms
        ]
        return [plan if fit else default for plan, fit in zip(plans, fits, strict=True)]

    @property
    def _inputs(self) -> tuple[int, int]:
        """The inputs of both matrices."""
        return self.config.hidden_size, self.config.expert_size

    def _names(self, parts: Sequence[str]) -> list[str]:
        if self.fused:
            return [f"{self.prefix}experts.{'_'.join(parts)}_proj"]
        return expert_names(self.prefix, self.config.num_experts, parts)

    def _common_block(self, first: MatrixPlan, second: MatrixPlan) -> int:
        hidden, inner = self._inputs
        sizes = (block_size(first.form, hidden), block_size(second.form, inner))
        limit = min(size for size in sizes if size is not None)
        block = next((block for block in BLOCK_SIZES if block <= limit and hidden % block == 0), None)
        if block is None:
            raise UnsupportedFeatureError(
                "onnx",
                f"quantized experts of hidden size {hidden} in a fast graph: it is no multiple of {BLOCK_SIZES[-1]}",
                hint="Export it with --portable, or without quantizing its experts.",
            )
        return block

    def _group(
        self, name: str, parts: tuple[str, ...], plan: MatrixPlan, shape: tuple[int, int], block: int
    ) -> TensorGroup:
        """The stacked matrices of all experts, each of some of the three ``parts``."""
        layout = MatrixLayout(
            name=name,
            kind=self.kind,
            form=plan.form,
            dtype=self.dtype,
            rows=shape[0],
            inputs=shape[1],
            block=block if block > 1 else block_size(plan.form, shape[1]) or 1,
            experts=self.config.num_experts,
        )
        experts = [[self._source(part, expert) for part in parts] for expert in range(self.config.num_experts)]

        def values(pool: ThreadPoolExecutor) -> Iterator[Array]:
            if plan.form.scheme.full_precision:
                for sources in experts:
                    yield self._joined([self._full(source) for source in sources], layout, 0)
            else:
                yield from code_arrays(layout, (self._joined_codes(sources, plan, layout, pool) for sources in experts))

        names = {source.name for sources in experts for source in sources}
        return TensorGroup(layout.tensors, values, self.reader.source_bytes(names))

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

    def _full(self, source: _Source) -> Array:
        return np.concatenate(list(self.reader.full_precision(source.name, self._read(source), self.dtype)))

    def _codes(self, source: _Source, plan: MatrixPlan, pool: ThreadPoolExecutor) -> Codes:
        if plan.keep_codes:
            return self.reader.stored_codes(source.name)
        parts = list(self.reader.quantized(source.name, self._read(source), plan.form, pool))
        return Codes(codes=np.concatenate([p.codes for p in parts]), scale=np.concatenate([p.scale for p in parts]))

    def _joined_codes(
        self, sources: Sequence[_Source], plan: MatrixPlan, layout: MatrixLayout, pool: ThreadPoolExecutor
    ) -> Codes:
        parts = [self._codes(source, plan, pool) for source in sources]
        zero = 0x88 if layout.bits == 4 else 0
        return Codes(
            codes=self._joined([part.codes for part in parts], layout, zero),
            scale=self._joined([part.scale for part in parts], layout, 0),
        )

    def _joined(self, parts: Sequence[npt.NDArray[Number]], layout: MatrixLayout, zero: int) -> npt.NDArray[Number]:
        """The rows of one part, or of gate and up, in the order that the operators take; each part is [inner, ...]."""
        if self.kind == "portable" or len(parts) == 1:
            return np.concatenate(parts)
        out = np.full((layout.rows // 2, 2, parts[0].shape[1]), zero, parts[0].dtype)
        for side, part in enumerate(parts):
            out[: len(part), side] = part
        return out.reshape(layout.rows, -1)


class _Source(NamedTuple):
    """A matrix of the checkpoint, or one of several in a tensor, or some rows of that."""

    name: str
    expert: int | None
    rows: slice
