"""How each matrix of a checkpoint is held once it is loaded, and what that takes. Needs no torch.

What the checkpoint has in codes of the scheme that was chosen is kept bit for bit. What such a checkpoint has in full
precision stays so: its publisher left it out on purpose. All else is quantized when it is read.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

from llama4sdk.quantization import LINEAR, MatrixFormat, ModuleClass, Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint

__all__ = ["MatrixPlan", "QuantizationPlan", "expert_names", "stored_quantization"]

FULL: Final = ("F32", "BF16", "F16")

#: Bytes that taking over a code needs for a moment, in a matrix: packed, in halves, packed anew.
KEPT: Final = 3

#: The same for a code that becomes a float32: values twice; the third of other formats is the code as a number.
UNPACKED: Final = {"GGUF": 8, "Hugging Face": 12}


class MatrixPlan(NamedTuple):
    """``kept``: whether the checkpoint's own codes are taken."""

    form: MatrixFormat
    kept: bool


class QuantizationPlan:
    """One checkpoint under one config."""

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization | QuantizationConfig) -> None:
        self.config = QuantizationConfig.of(quantization)
        self._checkpoint = checkpoint

    def held(self, module: ModuleClass, names: Sequence[str]) -> MatrixPlan:
        """How the matrices of these names, which are one in memory, are held."""
        wanted = self.config.format(module)
        if wanted.scheme.full_precision:
            return MatrixPlan(wanted, kept=False)
        stored = {self._checkpoint.stored_form(name) for name in names}
        form = stored.pop() if len(stored) == 1 else None
        if form is not None and self._is_wanted(form, wanted):
            return MatrixPlan(form, kept=True)
        left_out = all(self._checkpoint.tensors[name].dtype in FULL for name in names)
        if left_out and wanted.scheme in self._stored_schemes[module]:
            return MatrixPlan(MatrixFormat(scheme=self.config.dtype), kept=False)
        return MatrixPlan(wanted, kept=False)

    @property
    def bytes(self) -> int:
        """Memory of the loaded text network, exactly."""
        return sum(self.class_bytes.values())

    @property
    def class_bytes(self) -> dict[ModuleClass, int]:
        """The same by class of modules."""
        sizes: dict[ModuleClass, int] = {}
        for module, names in _stacks(self._checkpoint):
            shapes = [self._checkpoint.tensors[name].shape for name in names]
            form = self.held(module, names).form
            sizes[module] = sizes.get(module, 0) + sum(_bytes(form, shape) for shape in shapes)
        return sizes

    @property
    def loading_bytes(self) -> int:
        """Memory of the text network at the fullest moment of loading: what is there by then, and what is unpacked.

        That is most at the last of the large matrices, which come first.
        """
        there = fullest = 0
        for module, names in _stacks(self._checkpoint):
            form, kept = self.held(module, names)
            tensors = [self._checkpoint.tensors[name] for name in names]
            there += sum(_bytes(form, tensor.shape) for tensor in tensors)
            unpacked = [_one(tensor.shape) for tensor in tensors if tensor.dtype not in FULL]
            each = KEPT if kept else UNPACKED.get(self._checkpoint.format, max(UNPACKED.values()))
            fullest = max(fullest, there + each * max(unpacked, default=0))
        return fullest

    def _is_wanted(self, form: MatrixFormat, wanted: MatrixFormat) -> bool:
        """A group size that was asked for is that of symmetric groups; without one, any the checkpoint has will do."""
        any_group = wanted.scheme is not Quantization.INT4 or self.config.group_size is None
        alike = form.group_size == wanted.group_size and not form.minimum
        return form.scheme is wanted.scheme and (any_group or alike)

    @cached_property
    def _stored_schemes(self) -> dict[ModuleClass, Counter[Quantization | None]]:
        return _stored_schemes(self._checkpoint)


def stored_quantization(checkpoint: Checkpoint) -> Quantization | QuantizationConfig | None:
    """What most matrices of each class are stored in, where that can be kept; ``None`` where nothing can."""
    stored = _stored_schemes(checkpoint)
    commonest = {module: stored[module].most_common(1)[0][0] for module in LINEAR if stored[module]}
    schemes = {module: scheme for module, scheme in commonest.items() if scheme is not None}
    if not schemes:
        return None
    if len(schemes) == len(commonest) and len(set(schemes.values())) == 1:
        return next(iter(schemes.values()))  # of the classes that this network lacks nothing need be said
    return QuantizationConfig(**schemes)  # type: ignore[arg-type]  # mypy does not see which fields these are


def expert_names(prefix: str, experts: int, parts: Sequence[str]) -> list[str]:
    """The names of these parts of all experts, expert by expert."""
    return [f"{prefix}experts.{expert}.{part}_proj.weight" for expert in range(experts) for part in parts]


def _stored_schemes(checkpoint: Checkpoint) -> dict[ModuleClass, Counter[Quantization | None]]:
    """How many stacks of each class are stored in each scheme."""
    found: defaultdict[ModuleClass, Counter[Quantization | None]] = defaultdict(Counter)
    for module, names in _stacks(checkpoint):
        forms = [checkpoint.stored_form(name) for name in names]
        found[module].update(None if form is None else form.scheme for form in forms)
    return found


def _one(shape: tuple[int, ...]) -> int:
    """Values that are read at once: of fused experts, one expert's."""
    return math.prod(shape[1:] if len(shape) == 3 else shape)


def _bytes(form: MatrixFormat, shape: tuple[int, ...]) -> int:
    if len(shape) == 1:
        return form.bytes(1, shape[0])
    if len(shape) == 3:  # fused experts are stored [expert, in, out]
        return shape[0] * form.bytes(shape[2], shape[1])
    return form.bytes(*shape)


def _stacks(checkpoint: Checkpoint) -> Iterator[tuple[ModuleClass, list[str]]]:
    """The names of what becomes one matrix, or one stack of experts; each norm for itself."""
    c = checkpoint.config
    yield "embedding", ["model.embed_tokens.weight"]
    yield "norms", ["model.norm.weight"]
    if not c.tied_embeddings:
        yield "head", ["lm_head.weight"]
    for layer in range(c.num_layers):
        prefix = f"model.layers.{layer}."
        yield "norms", [f"{prefix}input_layernorm.weight"]
        yield "norms", [f"{prefix}post_attention_layernorm.weight"]
        yield "attention", [f"{prefix}self_attn.{part}_proj.weight" for part in "qkv"]
        yield "attention", [f"{prefix}self_attn.o_proj.weight"]
        prefix += "feed_forward."
        if layer not in c.moe_layers:
            yield from _dense("dense", prefix)
            continue
        yield "router", [f"{prefix}router.weight"]
        yield from _dense("shared_expert", f"{prefix}shared_expert.")
        if checkpoint.fused_experts(layer):
            yield "experts", [f"{prefix}experts.gate_up_proj"]
            yield "experts", [f"{prefix}experts.down_proj"]
        else:
            yield "experts", expert_names(prefix, c.num_experts, ("gate", "up"))
            yield "experts", expert_names(prefix, c.num_experts, ("down",))


def _dense(module: ModuleClass, prefix: str) -> Iterator[tuple[ModuleClass, list[str]]]:
    yield module, [f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"]
    yield module, [f"{prefix}down_proj.weight"]
