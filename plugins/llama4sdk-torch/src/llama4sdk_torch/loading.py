"""From a checkpoint to weights on a device, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llama4sdk.errors import CheckpointError, DeviceMemoryError
from llama4sdk.probe import memory
from llama4sdk.progress import Progress
from llama4sdk.quantization import MatrixFormat, ModuleClass, Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.quantization_plan import QuantizationPlan, expert_names
from llama4sdk.weights.tensor_names import vision_tensors
from llama4sdk_torch.model import Attention, Dense, Layer, Mixture, TextModel, Weights
from llama4sdk_torch.quantized import Matrix, Quantized, empty, quantize_into
from llama4sdk_torch.vision import Affine, VisionLayer, VisionModel, VisionWeights

FLOATS: Final = (
    (ml_dtypes.bfloat16, np.int16, torch.bfloat16),
    (ml_dtypes.float8_e4m3fn, np.uint8, torch.float8_e4m3fn),
)
DTYPES: Final = {Quantization.FP32: torch.float32, Quantization.BF16: torch.bfloat16}


def load_networks(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    quantization: Quantization | QuantizationConfig = Quantization.BF16,
    progress: Progress | None = None,
) -> tuple[TextModel, VisionModel | None]:
    """Read the text network, and the vision network of a checkpoint that has one.

    At its peak this takes the loaded size, and one tensor (of a mixture, one expert) where the checkpoint's codes must
    be unpacked. What is quantized is so piece by piece as it is read, or taken as it is where the checkpoint has it in
    the same scheme. ``progress`` is called after each tensor, or expert of a fused one, with bytes as stored.
    Raises CheckpointError when a tensor is missing, misshapen or not finite, DeviceMemoryError when the device is full.
    """
    with _checked(checkpoint, device):
        vision = checkpoint.vision
        vision_shapes = () if vision is None else vision_tensors(vision, checkpoint.config.hidden_size)
        names = [*checkpoint.text_tensor_names(), *(name for name, _ in vision_shapes)]
        loader = _Loader(checkpoint, device, quantization, progress, names)
        return loader.text(), loader.vision()


def load_model(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    quantization: Quantization | QuantizationConfig = Quantization.BF16,
    progress: Progress | None = None,
) -> TextModel:
    """Read the text network alone, as ``load_networks`` does; ``dtype`` stands for full precision in it."""
    with _checked(checkpoint, device):
        chosen = quantization if dtype is None else _full_precision(dtype)
        return _Loader(checkpoint, device, chosen, progress, checkpoint.text_tensor_names()).text()


def load_vision(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> VisionModel | None:
    """Read the vision network alone, as ``load_networks`` does."""
    with _checked(checkpoint, device):
        return _Loader(checkpoint, device, _full_precision(dtype)).vision()


@contextmanager
def _checked(checkpoint: Checkpoint, device: torch.device) -> Iterator[None]:
    checkpoint.verify()
    with memory_errors(device), torch.inference_mode():
        yield


@contextmanager
def memory_errors(device: torch.device) -> Iterator[None]:
    """Torch's and numpy's ways of saying that memory ran out, as DeviceMemoryError."""
    try:
        yield
    except DeviceMemoryError:
        raise
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
        if not known:
            raise
        raise DeviceMemoryError(
            f"{device} ran out of memory.",
            hint="Ask for a shorter context_length, a smaller quantization, or run fewer requests at a time.",
        ) from error


def free_memory(device: torch.device) -> int:
    """Bytes of the device's memory, or of the machine's, that are free."""
    return memory.read().free if device.type == "cpu" else torch.cuda.mem_get_info(device)[0]


def _full_precision(dtype: torch.dtype) -> Quantization:
    return next(scheme for scheme, own in DTYPES.items() if own is dtype)


class _Loader:
    """Reads networks. ``names`` are the tensors that will be read, whose bytes ``progress`` counts."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        quantization: Quantization | QuantizationConfig,
        progress: Progress | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self._checkpoint = checkpoint
        self._config = checkpoint.config
        self._device = device
        self._plan = QuantizationPlan(checkpoint, quantization)
        self._dtype = DTYPES[self._plan.config.dtype]
        self._progress = progress
        self._done = 0
        self._total = sum(checkpoint.tensors[name].nbytes for name in names)

    def text(self) -> TextModel:
        """The text network, largest matrices first: memory for unpacking them is free again when the rest is loaded."""
        embedding = self._matrix("embedding", ["model.embed_tokens.weight"])
        head = embedding if self._config.tied_embeddings else self._matrix("head", ["lm_head.weight"])
        weights = Weights(
            embedding=embedding,
            layers=tuple(self._layer(number) for number in range(self._config.num_layers)),
            norm=self._tensor("model.norm.weight"),
            head=head,
        )
        return TextModel(self._config, weights)

    def vision(self) -> VisionModel | None:
        config = self._checkpoint.vision
        return None if config is None else VisionModel(config, self._vision_weights(config.num_layers))

    def _layer(self, number: int) -> Layer:
        prefix = f"model.layers.{number}."
        heads = [f"{prefix}self_attn.{part}_proj.weight" for part in "qkv"]
        output = [f"{prefix}self_attn.o_proj.weight"]
        feed_forward = f"{prefix}feed_forward."
        fused = self._checkpoint.fused_experts(number)
        moe = number in self._config.moe_layers
        return Layer(
            attention_norm=self._tensor(f"{prefix}input_layernorm.weight"),
            attention=Attention(qkv=self._matrix("attention", heads), output=self._matrix("attention", output)),
            feed_forward_norm=self._tensor(f"{prefix}post_attention_layernorm.weight"),
            feed_forward=self._mixture(feed_forward, fused=fused) if moe else self._dense("dense", feed_forward),
        )

    def _vision_weights(self, layers: int) -> VisionWeights:
        model = "vision_model."
        return VisionWeights(
            patches=self._tensor(f"{model}patch_embedding.linear.weight"),
            class_token=self._tensor(f"{model}class_embedding"),
            positions=self._tensor(f"{model}positional_embedding_vlm"),
            first_norm=self._affine(f"{model}layernorm_pre"),
            layers=tuple(self._vision_layer(f"{model}model.layers.{number}.") for number in range(layers)),
            last_norm=self._affine(f"{model}layernorm_post"),
            adapter=(
                self._tensor(f"{model}vision_adapter.mlp.fc1.weight"),
                self._tensor(f"{model}vision_adapter.mlp.fc2.weight"),
            ),
            projector=self._tensor("multi_modal_projector.linear_1.weight"),
        )

    def _vision_layer(self, prefix: str) -> VisionLayer:
        return VisionLayer(
            attention_norm=self._affine(f"{prefix}input_layernorm"),
            qkv=self._affine(*(f"{prefix}self_attn.{part}_proj" for part in "qkv")),
            output=self._affine(f"{prefix}self_attn.o_proj"),
            mlp_norm=self._affine(f"{prefix}post_attention_layernorm"),
            up=self._affine(f"{prefix}mlp.fc1"),
            down=self._affine(f"{prefix}mlp.fc2"),
        )

    def _affine(self, *names: str) -> Affine:
        """One layer, or several layers of the same input as one."""
        weight, bias = (self._stack([f"{name}.{part}" for name in names]) for part in ("weight", "bias"))
        return Affine(weight=weight, bias=bias)

    def _dense(self, module: ModuleClass, prefix: str) -> Dense:
        return Dense(
            gate_up=self._matrix(module, [f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"]),
            down=self._matrix(module, [f"{prefix}down_proj.weight"]),
        )

    def _mixture(self, prefix: str, *, fused: bool) -> Mixture:
        c = self._config
        router = self._tensor(f"{prefix}router.weight")
        shared = self._dense("shared_expert", f"{prefix}shared_expert.")
        shapes = (2 * c.expert_size, c.hidden_size), (c.hidden_size, c.expert_size)
        if fused:
            names = f"{prefix}experts.gate_up_proj", f"{prefix}experts.down_proj"
            gate_up, down = (self._fused_experts(*pair) for pair in zip(names, shapes, strict=True))
        else:
            parts = ("gate", "up"), ("down",)
            gate_up, down = (self._experts(prefix, *pair) for pair in zip(parts, shapes, strict=True))
        return Mixture(router=router, gate_up=gate_up, down=down, shared=shared, experts_per_token=c.experts_per_token)

    def _fused_experts(self, name: str, shape: tuple[int, int]) -> Matrix:
        """Experts that are stored as one tensor, [expert, in, out]."""
        whole = self._empty(self._config.num_experts, *shape, form=self._plan.matrix_plan("experts", [name]).form)
        for expert in range(self._config.num_experts):
            _assign(whole[expert], self._read(name, expert).T)
        return whole

    def _experts(self, prefix: str, parts: Sequence[str], shape: tuple[int, int]) -> Matrix:
        """Experts that are stored one by one; ``shape`` is that of their ``parts`` put together."""
        matrix_plan = self._plan.matrix_plan("experts", expert_names(prefix, self._config.num_experts, parts))
        whole = self._empty(self._config.num_experts, *shape, form=matrix_plan.form)
        for expert in range(self._config.num_experts):
            names = [f"{prefix}experts.{expert}.{part}_proj.weight" for part in parts]
            self._fill(whole[expert], names, keep_codes=matrix_plan.keep_codes)
        return whole

    def _matrix(self, module: ModuleClass, names: list[str]) -> Matrix:
        """Matrices of equal width, stacked in this order."""
        matrix_plan = self._plan.matrix_plan(module, names)
        shapes = [self._checkpoint.tensors[name].shape for name in names]
        whole = self._empty(sum(shape[0] for shape in shapes), shapes[0][1], form=matrix_plan.form)
        self._fill(whole, names, keep_codes=matrix_plan.keep_codes)
        return whole

    def _empty(self, *shape: int, form: MatrixFormat) -> Matrix:
        return empty(*shape, form=form, dtype=self._dtype, device=self._device)

    def _fill(self, whole: Matrix, names: list[str], *, keep_codes: bool) -> None:
        start = 0
        for name in names:
            end = start + self._checkpoint.tensors[name].shape[0]
            rows = whole[start:end]
            if keep_codes and isinstance(rows, Quantized):
                self._copy_codes(rows, name)
            else:
                _assign(rows, self._read(name))
            start = end

    def _tensor(self, name: str) -> Tensor:
        return self._read(name).to(self._device, self._dtype)

    def _stack(self, names: list[str]) -> Tensor:
        """Tensors of equal width, stacked in this order."""
        shapes = [self._checkpoint.tensors[name].shape for name in names]
        whole = torch.empty((sum(shape[0] for shape in shapes), *shapes[0][1:]), device=self._device, dtype=self._dtype)
        self._fill(whole, names, keep_codes=False)
        return whole

    def _copy_codes(self, target: Quantized, name: str) -> None:
        """Copy the checkpoint's own codes and scales."""
        stored = self._checkpoint.read_quantized(name)
        if not stored.finite:
            raise self._not_finite(name)
        target.codes.copy_(_to_torch(stored.codes))
        target.scale.copy_(_to_torch(stored.scale))
        if target.minimum is not None and stored.minimum is not None:
            target.minimum.copy_(_to_torch(stored.minimum))
        self._report(name)

    def _read(self, name: str, index: int | None = None) -> Tensor:
        """A tensor on the host, as stored: assigning it converts, and copies to the device."""
        tensor = _to_torch(self._checkpoint.read(name, index))
        low, high = tensor.aminmax()  # these see a NaN, and make no copy
        if not (low.isfinite() and high.isfinite()):
            raise self._not_finite(name)
        self._report(name, index)
        return tensor

    def _not_finite(self, name: str) -> CheckpointError:
        return CheckpointError(f"Tensor '{name}' of {self._checkpoint.path} holds values that are no finite number.")

    def _report(self, name: str, index: int | None = None) -> None:
        if self._progress is not None:
            info = self._checkpoint.tensors[name]
            self._done += info.nbytes if index is None else info.nbytes // info.shape[0]
            self._progress(self._done, self._total)


def _assign(target: Matrix, values: Tensor) -> None:
    if isinstance(target, Tensor):
        target.copy_(values)
    else:
        quantize_into(target, values)


def _to_torch(values: npt.NDArray[np.generic]) -> Tensor:
    """A numpy array as a tensor. Torch has the types of ml_dtypes under names of its own, with the same bits."""
    for theirs, bits, ours in FLOATS:
        if values.dtype == theirs:
            return torch.from_numpy(_writable(values.view(bits))).view(ours)
    return torch.from_numpy(_writable(values))


class _WritableView:
    """A view of a read-only array that claims to be writable, as torch requires; nothing writes to it."""

    def __init__(self, values: npt.NDArray[np.generic]) -> None:
        self._values = values  # lives as long as what is made of it
        address, _ = values.__array_interface__["data"]
        self.__array_interface__ = {**values.__array_interface__, "data": (address, False)}


def _writable(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The array in a form that torch does not warn of: it warns of read-only ones, such as views of a file."""
    return values if values.flags.writeable else np.asarray(_WritableView(values))
