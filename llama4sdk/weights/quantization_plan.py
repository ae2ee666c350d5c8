"""The format of each matrix of a checkpoint once it is loaded, and the memory that takes. Needs no torch.

Matrices that the checkpoint stores as codes of the chosen scheme keep these codes bit for bit. Matrices that such a
checkpoint stores in full precision stay so: its publisher left them out on purpose. All others are quantized as they
are read.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from llama4sdk.quantization import LINEAR, MatrixFormat, ModuleClass, Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import FULL_PRECISION, Checkpoint
from llama4sdk.weights.tensor_names import MODULES, module_kind

#: The parts of their names in which tensors differ that become one matrix or one stack of experts.
STACKED: Final = re.compile(r"(?<=self_attn\.)[qkv](?=_proj)|(gate|up)(?=_proj\.weight)|(?<=experts\.)\d+")

#: Temporary bytes for each code of a matrix whose codes are kept: packed, in halves, packed again.
KEEP_CODES_BYTES: Final = 3

#: Temporary bytes for each code that becomes a float32: the values twice, in other formats also the code as a number.
UNPACK_BYTES: Final = {"GGUF": 8, "Hugging Face": 12}


class MatrixPlan(NamedTuple):
    """The format of one matrix in memory; ``keep_codes`` if it takes over the checkpoint's codes."""

    form: MatrixFormat
    keep_codes: bool


class QuantizationPlan:
    """The formats of a checkpoint's matrices under a quantization."""

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization | QuantizationConfig) -> None:
        self.config = QuantizationConfig.of(quantization)
        self._checkpoint = checkpoint

    def matrix_plan(self, module: ModuleClass, names: Sequence[str]) -> MatrixPlan:
        """The plan of the stored matrices with these names, which become one matrix in memory."""
        wanted = self.config.format(module)
        if wanted.scheme.full_precision:
            return MatrixPlan(wanted, keep_codes=False)
        stored = {self._checkpoint.stored_form(name) for name in names}
        form = stored.pop() if len(stored) == 1 else None
        if form is not None and self._is_wanted(form, wanted):
            return MatrixPlan(form, keep_codes=True)
        full_precision = all(self._checkpoint.tensors[name].dtype in FULL_PRECISION for name in names)
        if full_precision and wanted.scheme in self._stored_schemes[module]:
            return MatrixPlan(MatrixFormat(scheme=self.config.dtype), keep_codes=False)
        return MatrixPlan(wanted, keep_codes=False)

    @property
    def bytes(self) -> int:
        """Exact memory of the loaded text network."""
        return sum(self.class_bytes.values())

    @property
    def class_bytes(self) -> dict[ModuleClass, int]:
        """Exact memory of the loaded text network by class of modules."""
        sizes: dict[ModuleClass, int] = {}
        for module, names in _stacks(self._checkpoint):
            shapes = [self._checkpoint.tensors[name].shape for name in names]
            form = self.matrix_plan(module, names).form
            sizes[module] = sizes.get(module, 0) + sum(_bytes(form, shape) for shape in shapes)
        return sizes

    @property
    def loading_bytes(self) -> int:
        """Peak memory of loading the text network: the matrices loaded so far, and the one being unpacked."""
        loaded = peak = 0
        for module, names in _stacks(self._checkpoint):
            form, keep_codes = self.matrix_plan(module, names)
            tensors = [self._checkpoint.tensors[name] for name in names]
            loaded += sum(_bytes(form, tensor.shape) for tensor in tensors)
            # Of fused experts, one is read at a time.
            code_counts = [math.prod(tensor.shape[-2:]) for tensor in tensors if tensor.dtype not in FULL_PRECISION]
            unpack_bytes = UNPACK_BYTES.get(self._checkpoint.format, max(UNPACK_BYTES.values()))
            code_bytes = KEEP_CODES_BYTES if keep_codes else unpack_bytes
            peak = max(peak, loaded + code_bytes * max(code_counts, default=0))
        return peak

    def _is_wanted(self, form: MatrixFormat, wanted: MatrixFormat) -> bool:
        """Whether a stored format satisfies the wanted one. Any groups do, unless int4 of a group size is wanted."""
        any_group = wanted.scheme is not Quantization.INT4 or self.config.group_size is None
        same_groups = form.group_size == wanted.group_size and not form.minimum
        return form.scheme is wanted.scheme and (any_group or same_groups)

    @cached_property
    def _stored_schemes(self) -> dict[ModuleClass, Counter[Quantization | None]]:
        return _stored_schemes(self._checkpoint)


def stored_quantization(checkpoint: Checkpoint) -> Quantization | QuantizationConfig | None:
    """The scheme most matrices of each class are stored in, if their codes can be kept; ``None`` if none can."""
    stored = _stored_schemes(checkpoint)
    commonest = {module: stored[module].most_common(1)[0][0] for module in LINEAR if stored[module]}
    schemes = {module: scheme for module, scheme in commonest.items() if scheme is not None}
    if not schemes:
        return None
    if len(schemes) == len(commonest) and len(set(schemes.values())) == 1:
        return next(iter(schemes.values()))  # also for classes that this network lacks
    return QuantizationConfig(**schemes)  # type: ignore[arg-type]  # mypy does not see which fields these are


def expert_names(prefix: str, experts: int, parts: Sequence[str]) -> list[str]:
    """Tensor names of these parts of all experts, expert by expert."""
    return [f"{prefix}experts.{expert}.{part}_proj.weight" for expert in range(experts) for part in parts]


def _stored_schemes(checkpoint: Checkpoint) -> dict[ModuleClass, Counter[Quantization | None]]:
    """Number of stacks of each class by the scheme they are stored in."""
    counts: defaultdict[ModuleClass, Counter[Quantization | None]] = defaultdict(Counter)
    for module, names in _stacks(checkpoint):
        forms = [checkpoint.stored_form(name) for name in names]
        counts[module].update(None if form is None else form.scheme for form in forms)
    return counts


def _bytes(form: MatrixFormat, shape: tuple[int, ...]) -> int:
    if len(shape) == 1:
        return form.bytes(1, shape[0])
    if len(shape) == 3:  # fused experts are stored [expert, in, out]
        return shape[0] * form.bytes(shape[2], shape[1])
    return form.bytes(*shape)


def _stacks(checkpoint: Checkpoint) -> Iterator[tuple[ModuleClass, list[str]]]:
    """Groups of tensor names that become one matrix, one stack of experts or one norm in memory, in their order."""
    stacks: defaultdict[str, list[str]] = defaultdict(list)
    for name in checkpoint.text_tensor_names():
        stacks[STACKED.sub("*", name)].append(name)
    return ((MODULES[module_kind(names[0])][0], names) for names in stacks.values())
