"""From a checkpoint to weights on a device, one tensor at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import ml_dtypes
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llama4sdk.errors import CheckpointError, DeviceMemoryError
from llama4sdk.progress import Progress
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.vision import vision_tensors
from llama4sdk_torch.model import Attention, Dense, Layer, Mixture, TextModel, Weights
from llama4sdk_torch.vision import Affine, VisionLayer, VisionModel, VisionWeights

__all__ = ["load_model", "load_networks", "load_vision", "memory_errors"]


def load_networks(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype, progress: Progress | None = None
) -> tuple[TextModel, VisionModel | None]:
    """Read the text network, and the vision network of a checkpoint that has one.

    At its peak this takes the loaded size and one tensor (of a mixture, one expert). ``progress`` is called after each
    tensor, or expert of a fused one, with bytes as stored.
    Raises CheckpointError when a tensor is missing, misshapen or not finite, DeviceMemoryError when the device is full.
    """
    with _checked(checkpoint, device):
        vision = checkpoint.vision
        seen = () if vision is None else vision_tensors(vision, checkpoint.config.hidden_size)
        names = [*checkpoint.needed(), *(name for name, _ in seen)]
        loader = _Loader(checkpoint, device, dtype, progress, names)
        return loader.text(), loader.vision()


def load_model(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype, progress: Progress | None = None
) -> TextModel:
    """Read the text network alone, as ``load_networks`` does."""
    with _checked(checkpoint, device):
        return _Loader(checkpoint, device, dtype, progress, checkpoint.needed()).text()


def load_vision(checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype) -> VisionModel | None:
    """Read the vision network alone, as ``load_networks`` does."""
    with _checked(checkpoint, device):
        return _Loader(checkpoint, device, dtype).vision()


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
            hint="Ask for a shorter context_length, quantization='bf16', or run fewer requests at a time.",
        ) from error


class _Loader:
    """``names`` are the tensors that will be read, where ``progress`` is to be told of them."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: torch.device,
        dtype: torch.dtype,
        progress: Progress | None = None,
        names: Iterable[str] = (),
    ) -> None:
        self._checkpoint = checkpoint
        self._config = checkpoint.config
        self._device = device
        self._dtype = dtype
        self._progress = progress
        self._done = 0
        self._total = sum(checkpoint.tensors[name].nbytes for name in names)

    def text(self) -> TextModel:
        embedding = self._tensor("model.embed_tokens.weight")
        weights = Weights(
            embedding=embedding,
            layers=tuple(self._layer(number) for number in range(self._config.num_layers)),
            norm=self._tensor("model.norm.weight"),
            head=embedding if self._config.tied_embeddings else self._tensor("lm_head.weight"),
        )
        return TextModel(self._config, weights)

    def vision(self) -> VisionModel | None:
        config = self._checkpoint.vision
        return None if config is None else VisionModel(config, self._vision_weights(config.num_layers))

    def _layer(self, number: int) -> Layer:
        prefix = f"model.layers.{number}."
        heads = [f"{prefix}self_attn.{part}_proj.weight" for part in "qkv"]
        feed_forward = f"{prefix}feed_forward."
        fused = self._checkpoint.fused_experts(number)
        moe = number in self._config.moe_layers
        return Layer(
            attention_norm=self._tensor(f"{prefix}input_layernorm.weight"),
            attention=Attention(qkv=self._stacked(heads), output=self._tensor(f"{prefix}self_attn.o_proj.weight")),
            feed_forward_norm=self._tensor(f"{prefix}post_attention_layernorm.weight"),
            feed_forward=self._mixture(feed_forward, fused=fused) if moe else self._dense(feed_forward),
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
        """One layer, or several that read the same input as one."""
        weight, bias = (self._stacked([f"{name}.{part}" for name in names]) for part in ("weight", "bias"))
        return Affine(weight=weight, bias=bias)

    def _dense(self, prefix: str) -> Dense:
        gate_up = self._stacked([f"{prefix}gate_proj.weight", f"{prefix}up_proj.weight"])
        return Dense(gate_up=gate_up, down=self._tensor(f"{prefix}down_proj.weight"))

    def _mixture(self, prefix: str, *, fused: bool) -> Mixture:
        c = self._config
        gate_up = self._empty(c.num_experts, 2 * c.expert_size, c.hidden_size)
        down = self._empty(c.num_experts, c.hidden_size, c.expert_size)
        for expert in range(c.num_experts):
            if fused:  # stored [in, out]
                gate_up[expert] = self._read(f"{prefix}experts.gate_up_proj", expert).T
                down[expert] = self._read(f"{prefix}experts.down_proj", expert).T
            else:
                names = [f"{prefix}experts.{expert}.{part}_proj.weight" for part in ("gate", "up")]
                self._fill(gate_up[expert], names)
                down[expert] = self._read(f"{prefix}experts.{expert}.down_proj.weight")
        return Mixture(
            router=self._tensor(f"{prefix}router.weight"),
            gate_up=gate_up,
            down=down,
            shared=self._dense(f"{prefix}shared_expert."),
            experts_per_token=c.experts_per_token,
        )

    def _tensor(self, name: str) -> Tensor:
        return self._read(name).to(self._device, self._dtype)

    def _stacked(self, names: list[str]) -> Tensor:
        """Tensors of equal width as one, in this order."""
        shapes = [self._checkpoint.tensors[name].shape for name in names]
        whole = self._empty(sum(shape[0] for shape in shapes), *shapes[0][1:])
        self._fill(whole, names)
        return whole

    def _fill(self, whole: Tensor, names: list[str]) -> None:
        start = 0
        for name in names:
            part = self._read(name)
            whole[start : start + len(part)] = part
            start += len(part)

    def _empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, device=self._device, dtype=self._dtype)

    def _read(self, name: str, index: int | None = None) -> Tensor:
        """On the host, as stored. Assigning it converts, and copies to the device."""
        tensor = _to_torch(self._checkpoint.read(name, index))
        low, high = tensor.aminmax()  # these see a NaN, and make no copy
        if not (low.isfinite() and high.isfinite()):
            raise CheckpointError(f"Tensor '{name}' of {self._checkpoint.path} holds values that are no finite number.")
        if self._progress is not None:
            info = self._checkpoint.tensors[name]
            self._done += info.nbytes if index is None else info.nbytes // info.shape[0]
            self._progress(self._done, self._total)
        return tensor


def _to_torch(values: npt.NDArray[np.generic]) -> Tensor:
    if values.dtype == ml_dtypes.bfloat16:  # torch does not know numpy's bfloat16, but has the same bits
        return torch.from_numpy(_writable(values.view(np.int16))).view(torch.bfloat16)
    return torch.from_numpy(_writable(values))


def _writable(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Torch warns of arrays it could not write to; a view of a file is copied instead."""
    return values if values.flags.writeable else values.copy()
