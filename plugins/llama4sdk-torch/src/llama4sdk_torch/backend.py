"""The torch backend. Nothing here imports torch until a model is loaded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from llama4sdk.backend import Backend, Need, Offer, Unavailable
from llama4sdk.capacity.model_facts import ModelFacts, Precision
from llama4sdk.capacity.torch_memory import RUNTIME_BYTES
from llama4sdk.errors import CheckpointError, ModelLoadError, WeightsNotFoundError
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.sizes import weight_bytes
from llama4sdk.local.memory_meter import MemoryMeter, require_room
from llama4sdk.plan import Plan
from llama4sdk.progress import Progress
from llama4sdk.quantization import Quantization
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.model_facts import FULL_PRECISION, checkpoint_facts, config_facts, find_model_facts
from llama4sdk.weights.opening import open_checkpoint
from llama4sdk.weights.quantization_plan import QuantizationPlan, stored_quantization
from llama4sdk.weights.store import locate
from llama4sdk_torch.offer import TorchModel, make_offer

if TYPE_CHECKING:
    import torch

    from llama4sdk_torch.engine import TorchEngine

#: A packed checkpoint is unpacked to float32 when that takes no more bytes than this.
MAX_UNPACKED_BYTES: Final = 4 * 10**9


class TorchBackend(Backend):
    """Runs a checkpoint on one device: in fp32 or bf16, or with int8, fp8 or int4 weights."""

    name: ClassVar[str] = "torch"

    def offer(self, need: Need, hardware: Hardware) -> Offer | Unavailable:
        """An offer for any model that fits, on disk or not. Of a checkpoint only the header is read."""
        if need.model is None:
            return Unavailable(reason="it must be told which model to run.", fix="Pass a model's name or path.")
        try:
            model = _find_model(need.model)
        except ModelLoadError as error:  # the wrong files, or damaged ones
            damaged = isinstance(error, CheckpointError)
            return Unavailable(reason=error.message, fix=error.hint, damaged=damaged)
        if model is None:
            return Unavailable(
                reason=f"'{need.model}' is neither a known model nor a checkpoint on this machine.",
                fix="Pass 'demo', 'scout', 'maverick', a path, or a repository id that was fetched.",
            )
        return make_offer(model, need, hardware)

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
        precision = plan.quantization or _precision(checkpoint, checkpoint_facts(plan.model, checkpoint))
        require_room(plan, free_memory(device))
        network, vision = load_networks(checkpoint, device=device, quantization=precision, progress=progress)
        return TorchEngine(
            checkpoint,
            network,
            vision,
            model=plan.model,
            context_length=plan.context_length,
            batch=plan.batch or 1,
            meter=meter,
        )


def _allocated(accelerator: str) -> int:
    """The most bytes of an accelerator that torch has taken so far, with those of its libraries."""
    import torch

    return torch.cuda.max_memory_allocated(_device(accelerator)) + RUNTIME_BYTES["accelerator"]


def _device(name: str) -> torch.device:
    """The device as torch names it: AMD's have the same name as NVIDIA's."""
    import torch

    return torch.device(name.replace("rocm", "cuda"))


def _find_model(name: str) -> TorchModel | None:
    """The model of a name or a path: of its checkpoint when it is here, else of its config or the catalogue."""
    path = locate(name)
    if path is None or config_facts(name, path) is not None:
        facts = find_model_facts(name)
        return None if facts is None else TorchModel(facts)
    checkpoint = open_checkpoint(path)
    facts = checkpoint_facts(name, checkpoint)
    has_codes = stored_quantization(checkpoint) is not None
    is_packed = any(tensor.dtype not in FULL_PRECISION for tensor in checkpoint.tensors.values())
    return TorchModel(
        facts.model_copy(update={"precision": _precision(checkpoint, facts)}),
        text_bytes=cache(lambda precision: QuantizationPlan(checkpoint, precision).class_bytes) if has_codes else None,
        loading_bytes=cache(lambda precision: QuantizationPlan(checkpoint, precision).loading_bytes)
        if is_packed
        else None,
    )


def _precision(checkpoint: Checkpoint, facts: ModelFacts) -> Precision:
    """The checkpoint's own precision; float32 for a small one that is packed, for that is faster."""
    packed = checkpoint.dtype not in FULL_PRECISION
    if packed and weight_bytes(facts.config, Quantization.FP32) <= MAX_UNPACKED_BYTES:
        return Quantization.FP32
    return facts.precision
