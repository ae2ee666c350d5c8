"""The torch backend. Nothing here imports torch until a model is loaded."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from llama4sdk import catalog
from llama4sdk.backend import Backend, Capabilities, Need, Offer, Unavailable
from llama4sdk.capabilities import Feature
from llama4sdk.errors import CheckpointError, ModelLoadError, WeightsNotFoundError
from llama4sdk.hardware import Hardware
from llama4sdk.llama4.config import TextConfig
from llama4sdk.planning.estimate import weight_bytes
from llama4sdk.planning.plan import Plan
from llama4sdk.planning.quantization import Quantization
from llama4sdk.progress import Progress
from llama4sdk.weights.checkpoint import Checkpoint, open_checkpoint
from llama4sdk.weights.described import described
from llama4sdk.weights.store import locate
from llama4sdk.weights.vision import vision_parameters
from llama4sdk_torch import CAPABILITIES
from llama4sdk_torch.holding import Holding, stored_quantization
from llama4sdk_torch.metering import Meter
from llama4sdk_torch.offering import SMALL, Precision, Subject, make_offer

if TYPE_CHECKING:
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
        except CheckpointError as error:
            return Unavailable(reason=error.message, fix=error.hint, damaged=True)
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
        meter = Meter(plan)
        with meter.watching():  # torch itself takes memory, too
            return self._load(checkpoint, plan, meter, progress)

    def _load(self, checkpoint: Checkpoint, plan: Plan, meter: Meter, progress: Progress | None) -> TorchEngine:
        import torch

        from llama4sdk_torch.engine import TorchEngine
        from llama4sdk_torch.loading import load_networks, require_room

        device = torch.device(plan.placement.devices[0].replace("rocm", "cuda"))  # torch calls AMD's devices so, too
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ModelLoadError(
                f"This installation of torch cannot use {device}.", hint="Pass device='cpu', or install torch for it."
            )
        precision = plan.quantization or _precision(checkpoint)
        require_room(plan, device)
        network, vision = load_networks(checkpoint, device=device, quantization=precision, progress=progress)
        return TorchEngine(
            checkpoint,
            network,
            vision,
            model=plan.model,
            context_length=plan.context_length,
            batch=plan.batch or 1,
            request_bytes=_of_one_request(plan),
            meter=meter,
        )


def _of_one_request(plan: Plan) -> int:
    """What each of the plan's batch takes, beside what they share."""
    parts = next(iter(plan.breakdown.values()), {})
    return (parts.get("kv_cache", 0) + parts.get("workspace", 0)) // (plan.batch or 1)


def _subject(model: str) -> Subject | None:
    """What is known of a model: from its checkpoint when it is here, else from its config or the catalogue."""
    if (path := locate(model)) is not None:
        if (alone := described(path)) is not None:
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
            capabilities=_capabilities(
                chat=checkpoint.prompt_format() is not None, tools=checkpoint.calls_tools, images=vision is not None
            ),
            vision_parameters=vision_parameters(vision, checkpoint.config.hidden_size) if vision else 0,
            text_bytes=cache(lambda precision: Holding(checkpoint, precision).class_bytes) if has_codes else None,
            loading_bytes=cache(lambda precision: Holding(checkpoint, precision).loading_bytes) if is_packed else None,
        )
    spec = catalog.find(model)
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
        capabilities=_capabilities(chat=True, tools=tools, images=vision_parameters > 0),
        vision_parameters=vision_parameters,
    )


def _capabilities(*, chat: bool, tools: bool, images: bool) -> Capabilities:
    """The backend's, less what this model cannot do. Images and tools are part of a chat."""
    called = chat and tools
    able: dict[Feature, bool] = {"chat": chat, "tools": called, "tool_choice": called, "images": chat and images}
    lacking = {feature for feature, can in able.items() if not can}
    return CAPABILITIES.model_copy(update={"features": CAPABILITIES.features - lacking})


def _precision(checkpoint: Checkpoint) -> Precision:
    """The checkpoint's own. What is quantized in a way that cannot be kept, or is small, is unpacked."""
    if checkpoint.dtype not in STORED and weight_bytes(checkpoint.config, Quantization.FP32) <= SMALL:
        return Quantization.FP32
    return stored_quantization(checkpoint) or STORED.get(checkpoint.dtype, Quantization.BF16)
