"""Offers of an export: in its own quantization, on a device that can run its graph. Pure; needs no ONNX Runtime."""

from __future__ import annotations

from typing import Final

from llama4sdk._text import gb
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.capacity.device_room import DeviceRoom, device_rooms, rooms_on
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.model_facts import ModelFacts, Precision
from llama4sdk.capacity.torch_memory import MemoryKind
from llama4sdk.hardware import Hardware, Runtime
from llama4sdk.local.offer import (
    LocalModel,
    describe_fewer_tokens,
    fitting_setups,
    insufficient_memory,
    offer_setup,
    unknown_device,
    unsupported_context,
    unsupported_features,
)
from llama4sdk.quantization import LINEAR, Quantization, QuantizationConfig
from llama4sdk_onnx import CAPABILITIES
from llama4sdk_onnx.manifest import Manifest, is_older
from llama4sdk_onnx.sizing import memory_breakdown, weight_bytes

#: The distributions of ONNX Runtime: for the processor alone, and for NVIDIA's GPUs.
CPU_BUILD: Final = "onnxruntime"
GPU_BUILD: Final = "onnxruntime-gpu"


class ExportedModel(LocalModel):
    """An export in ONNX Runtime. ``facts.source`` is its directory, ``facts.precision`` its quantization."""

    def __init__(self, facts: ModelFacts, manifest: Manifest) -> None:
        super().__init__(facts, find_engine("ONNX Runtime"), facts.capabilities_in(CAPABILITIES))
        self.manifest = manifest

    def memory_breakdown(
        self, precision: Precision, context: int, batch: int, memory_kind: MemoryKind
    ) -> dict[str, int]:
        """Bytes by part, as ``sizing`` counts them; an export has one precision."""
        return memory_breakdown(self.manifest, context, batch=batch, memory_kind=memory_kind)


def make_offer(model: ExportedModel, need: Need, hardware: Hardware) -> Offer | Unavailable:
    """The best device that has room: an accelerator that can run the export, or the processor."""
    refusal = (
        unsupported_features(model, need)
        or _other_quantization(model, need)
        or unsupported_context(model.facts, need)
        or _outdated_runtime(model, hardware)
    )
    if refusal:
        return refusal
    all_rooms = list(device_rooms(hardware, model.engine))
    usable = [room for room in all_rooms if _obstacle(model, room, hardware) is None]
    rooms = rooms_on(usable, need.device)
    if not rooms:
        obstacles = [_obstacle(model, room, hardware) for room in rooms_on(all_rooms, need.device)]
        return next(filter(None, obstacles), None) or unknown_device(need.device, usable)
    quantization = model.manifest.quantization
    setups = fitting_setups(model, need, [(quantization, room) for room in rooms])
    if not setups:
        return _insufficient_memory(model, need, max(rooms, key=lambda room: room.usable))
    offer = offer_setup(
        model, setups[0], need, hardware, label=f"{quantization}", quantization_reason="it is what was exported"
    )
    return offer.model_copy(
        update={
            "quantization": need.quantization or quantization.simplest,
            "weight_bytes": sum(weight_bytes(model.manifest).values()),  # with those that stay in the mapped files
        }
    )


def _other_quantization(model: ExportedModel, need: Need) -> Unavailable | None:
    """The refusal of a quantization that the export does not have."""
    exported = model.manifest.quantization
    if need.quantization is None or _matches(need.quantization, exported):
        return None
    return Unavailable(
        reason=f"{model.facts.source} holds {exported}, and not {need.quantization}.",
        fix=f"Leave the quantization open, or export the checkpoint again: "
        f"llama4sdk export CHECKPOINT --to onnx -q {need.quantization} DIRECTORY",
    )


def _matches(wanted: Precision, exported: QuantizationConfig) -> bool:
    """Whether the export has the wanted quantization; a scheme alone leaves the type of activations open."""
    if isinstance(wanted, QuantizationConfig):
        return wanted == exported
    return all(exported.scheme(module) is wanted for module in LINEAR)


def _outdated_runtime(model: ExportedModel, hardware: Hardware) -> Unavailable | None:
    """The refusal of an installed ONNX Runtime that is too old for the graph's operators."""
    oldest = model.manifest.onnxruntime
    for runtime in _installed_builds(hardware):
        if is_older(runtime.version, oldest):
            return Unavailable(
                reason=f"{model.facts.source} needs {runtime.name} {oldest}, and {runtime.version} is installed.",
                fix=f"pip install --upgrade '{runtime.name}>={oldest}'",
            )
    return None


def _installed_builds(hardware: Hardware) -> list[Runtime]:
    """The builds of ONNX Runtime; a machine described without any is taken to have the one it needs."""
    return [runtime for runtime in hardware.runtimes if runtime.name in (CPU_BUILD, GPU_BUILD)]


def _obstacle(model: ExportedModel, room: DeviceRoom, hardware: Hardware) -> Unavailable | None:
    """The refusal of a device that cannot run this export."""
    if room.accelerator is None:
        return None
    builds = {runtime.name for runtime in _installed_builds(hardware)}
    if builds and GPU_BUILD not in builds:
        return Unavailable(
            reason=f"the installed ONNX Runtime runs on the processor only, not on {room.device}.",
            fix="pip uninstall -y onnxruntime && pip install 'llama4sdk-onnx[gpu]'",
        )
    exported = model.manifest.quantization
    if model.manifest.kind == "fast" and exported.dtype is not Quantization.FP16:
        return Unavailable(
            reason=f"{model.facts.source} calculates in {exported.dtype}, and ONNX Runtime's attention on "
            f"{room.device} only in fp16.",
            fix=f"Export it again with -q {_with_fp16(exported)}, or pass device='cpu'.",
        )
    return None


def _with_fp16(exported: QuantizationConfig) -> str:
    """The option that gives such weights activations in fp16."""
    schemes = (exported.scheme(module) for module in LINEAR)
    scheme = next((scheme for scheme in schemes if not scheme.full_precision), None)
    return f"{scheme}/fp16" if scheme else "fp16"


def _insufficient_memory(model: ExportedModel, need: Need, room: DeviceRoom) -> Unavailable:
    quantization = model.manifest.quantization
    size = gb(model.min_memory(quantization, need, room))
    fix = describe_fewer_tokens(model, quantization, need, room)
    fix = fix or f"Export the model in fewer bits, or use a machine with {size} free in one place."
    return insufficient_memory(model, quantization, need, room, label=f"in {quantization}", fix=fix)
