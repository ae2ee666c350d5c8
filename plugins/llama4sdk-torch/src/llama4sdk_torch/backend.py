"""The torch backend. Nothing here imports torch until a model is loaded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from llama4sdk.backend import Backend, Need, Offer, Unavailable
from llama4sdk.capacity.torch_memory import RUNTIME
from llama4sdk.catalog import models
from llama4sdk.errors import CheckpointError, ModelLoadError, WeightsNotFoundError
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.local.memory_meter import MemoryMeter, request_bytes, require_room
from llama4sdk.plan import Plan
from llama4sdk.progress import Progress
from llama4sdk.quantization import Quantization
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.config_only import read_config
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.quantization_plan import QuantizationPlan, stored_quantization
from llama4sdk.weights.store import locate
from llama4sdk.weights.tensor_names import vision_parameters
from llama4sdk_torch import CAPABILITIES
from llama4sdk_torch.offer import SMALL, Precision, Subject, make_offer

if TYPE_CHECKING:
    import torch

    from llama4sdk_torch.engine import TorchEngine

__all__ = ["TorchBackend"]

LLAMA4_VOCABULARY: Final = 202_048
STORED: Final = {"F32": Quantization.FP32, "BF16": Quantization.BF16, "F16": Quantization.BF16}


class TorchBackend(Backend):
    """Runs a checkpoint on one device: in fp32 or bf16, or with int8, fp8 or int4 weights."""

    name: ClassVar[str] = "torch"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """An offer for any model that fits, on disk or not. Of a checkpoint only the header is read."""
        if need.model is None:
            return Unavailable(reason="it must be told which model to run.", fix="Pass a model's name or path.")
        try:
            subject = _subject(need.model)
        except ModelLoadError as error:  # the wrong files, or damaged ones
            damaged = isinstance(error, CheckpointError)
            return Unavailable(reason=error.message, fix=error.hint, damaged=damaged)
        if subject is None:
            return Unavailable(
                reason=f"'{need.model}' is neither a known model nor a checkpoint on this machine.",
                fix="Pass 'demo', 'scout', 'maverick', a path, or a repository id that was fetched.",
            )
        if missing := need.features - (subject.capabilities or CAPABILITIES).features:
            return Unavailable(
                reason=f"with '{subject.model}' it does not support {', '.join(sorted(missing))}.",
                fix="Choose another model or backend: 'llama4sdk backends' lists what each can do.",
            )
        return make_offer(subject, need, hardware)

    def load(self, plan: Plan, *, progress: Progress | None = None) -> TorchEngine:
        """Read the weights, telling ``progress`` how far that is.

        Raises WeightsNotFoundError when they are not on this machine, CheckpointError when they are damaged,
        DeviceMemoryError when they do not fit, ModelLoadError when torch has no such device.
        """
        source = Path(plan.source) if plan.source else locate(plan.model)
        if source is None:
            raise WeightsNotFoundError(
                f"The weights of '{plan.model}' are not on this machine.", hint=f"Run 'llama4sdk pull {plan.model}'."
            )
        checkpoint = open_checkpoint(source)
        meter = MemoryMeter(plan, lambda: _allocated(plan.placement.devices[0]))
        with meter.watching():  # torch itself takes memory, too
            return self._load(checkpoint, plan, meter, progress)

    def _load(self, checkpoint: Checkpoint, plan: Plan, meter: MemoryMeter, progress: Progress | None) -> TorchEngine:
        import torch

        from llama4sdk_torch.engine import TorchEngine
        from llama4sdk_torch.loading import free_memory, load_networks

        device = _device(plan.placement.devices[0])
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ModelLoadError(
                f"This installation of torch cannot use {device}.", hint="Pass device='cpu', or install torch for it."
            )
        precision = plan.quantization or _precision(checkpoint)
        require_room(plan, free_memory(device))
        network, vision = load_networks(checkpoint, device=device, quantization=precision, progress=progress)
        return TorchEngine(
            checkpoint,
            network,
            vision,
            model=plan.model,
            context_length=plan.context_length,
            batch=plan.batch or 1,
            request_bytes=request_bytes(plan),
            meter=meter,
        )


def _allocated(accelerator: str) -> int:
    """The most bytes that torch took of it so far, and what its libraries take."""
    import torch

    return torch.cuda.max_memory_allocated(_device(accelerator)) + RUNTIME["accelerator"]


def _device(name: str) -> torch.device:
    """Torch calls AMD's devices by the same name as NVIDIA's."""
    import torch

    return torch.device(name.replace("rocm", "cuda"))


def _subject(model: str) -> Subject | None:
    """What is known of a model: from its checkpoint when it is here, else from its config or the catalogue."""
    if (path := locate(model)) is not None:
        if (alone := read_config(path)) is not None:
            return _unseen(model, *alone)
        checkpoint = open_checkpoint(path)
        vision = checkpoint.vision
        has_codes = stored_quantization(checkpoint) is not None
        is_packed = any(tensor.dtype not in STORED for tensor in checkpoint.tensors.values())
        return Subject(
            model=model,
            source=path,
            config=checkpoint.config,
            precision=_precision(checkpoint),
            capabilities=CAPABILITIES.of_model(
                chat=checkpoint.prompt_format() is not None, tools=checkpoint.calls_tools, images=vision is not None
            ),
            vision_parameters=vision_parameters(vision, checkpoint.config.hidden_size) if vision else 0,
            text_bytes=cache(lambda precision: QuantizationPlan(checkpoint, precision).class_bytes)
            if has_codes
            else None,
            loading_bytes=cache(lambda precision: QuantizationPlan(checkpoint, precision).loading_bytes)
            if is_packed
            else None,
        )
    spec = models.find(model)
    if spec is None or spec.config is None:
        return None
    return _unseen(model, spec.config, spec.vision_parameters, spec.published_precision)


def _unseen(
    model: str, config: TextConfig, vision_parameters: int, precision: Quantization = Quantization.BF16
) -> Subject:
    """A model whose weights are not here."""
    tools = config.vocab_size == LLAMA4_VOCABULARY
    return Subject(
        model=model,
        source=None,
        config=config,
        precision=precision,
        capabilities=CAPABILITIES.of_model(chat=True, tools=tools, images=vision_parameters > 0),
        vision_parameters=vision_parameters,
    )


def _precision(checkpoint: Checkpoint) -> Precision:
    """The checkpoint's own. What is quantized in a way that cannot be kept, or is small, is unpacked."""
    if checkpoint.dtype not in STORED and weight_bytes(checkpoint.config, Quantization.FP32) <= SMALL:
        return Quantization.FP32
    return stored_quantization(checkpoint) or STORED.get(checkpoint.dtype, Quantization.BF16)
