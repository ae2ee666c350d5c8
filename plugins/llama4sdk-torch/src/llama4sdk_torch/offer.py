"""The torch engine's offers, in the precisions that it can make of a checkpoint. Pure, and free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from llama4sdk._text import gb
from llama4sdk.backend import Need, Offer, Unavailable
from llama4sdk.capacity.device_room import DeviceRoom, device_rooms, rooms_on
from llama4sdk.capacity.engine_profiles import find_engine
from llama4sdk.capacity.model_facts import ModelFacts, Precision
from llama4sdk.capacity.torch_memory import MemoryKind, memory_breakdown
from llama4sdk.hardware import Hardware
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
from llama4sdk.quantization import ModuleClass, Quantization, QuantizationConfig
from llama4sdk_torch import CAPABILITIES

#: Number formats of activations.
ACTIVATION_DTYPES: Final = (Quantization.FP32, Quantization.BF16)

#: The schemes tried when nobody asks for one, most bits first.
SCHEMES: Final = (Quantization.FP32, Quantization.BF16, Quantization.INT8, Quantization.INT4)

#: The compute capability from which NVIDIA's devices calculate in fp8.
FP8_COMPUTE_CAPABILITY: Final = (8, 9)


class TorchModel(LocalModel):
    """A model in the torch engine."""

    def __init__(
        self,
        facts: ModelFacts,
        *,
        text_bytes: Callable[[Precision], Mapping[ModuleClass, int]] | None = None,
        loading_bytes: Callable[[Precision], int] | None = None,
    ) -> None:
        """``text_bytes`` gives the text network's bytes by class, where they are not those of its sizes.

        ``loading_bytes`` gives the bytes of all weights at the fullest moment of loading, where some are unpacked then.
        """
        super().__init__(facts, find_engine("torch"), facts.capabilities_in(CAPABILITIES))
        self._text_bytes = text_bytes
        self._loading_bytes = loading_bytes

    def memory_breakdown(
        self, precision: Precision, context: int, batch: int, memory_kind: MemoryKind
    ) -> dict[str, int]:
        """Bytes by part, as ``capacity.torch_memory`` counts them."""
        return memory_breakdown(
            self.facts.config,
            precision,
            context,
            batch=batch,
            memory_kind=memory_kind,
            vision=self.facts.vision_parameters,
            text=None if self._text_bytes is None else self._text_bytes(precision),
            loading=0 if self._loading_bytes is None else self._loading_bytes(precision),
        )


def make_offer(model: TorchModel, need: Need, hardware: Hardware) -> Offer | Unavailable:
    """The best device and precision that have room, or how much memory is missing where."""
    if refusal := unsupported_features(model, need) or _unsupported(model.facts, need):
        return refusal
    all_rooms = list(device_rooms(hardware, model.engine))
    rooms = rooms_on(all_rooms, need.device)
    if not rooms:
        return unknown_device(need.device, all_rooms)
    precisions = [need.quantization] if need.quantization else _precisions(model.facts.precision)
    setups = fitting_setups(model, need, _choices(precisions, rooms))
    if not setups:
        return _insufficient_memory(model, precisions[-1], need, rooms)
    setup = setups[0]
    config = QuantizationConfig.of(setup.precision)
    label = f"{setup.precision}" if config.full_precision else f"{setup.precision} (activations {config.dtype})"
    reason = None
    if need.quantization is None:
        alike = [room for room in rooms if room.memory_kind == setup.room.memory_kind]
        reason = _quantization_reason(model, setup.precision, precisions, need, alike)
    return offer_setup(model, setup, need, hardware, label=label, quantization_reason=reason)


def _unsupported(facts: ModelFacts, need: Need) -> Unavailable | None:
    """The refusal of a precision or a context that no machine could provide."""
    config = QuantizationConfig.of(need.quantization or facts.precision)
    if config.dtype not in ACTIVATION_DTYPES:
        return Unavailable(
            reason=f"it calculates in fp32 and bf16, not {config.dtype}.",
            fix="Pass quantization='bf16', or leave the choice open.",
        )
    if facts.config.tied_embeddings and config.head is not config.embedding:
        return Unavailable(
            reason=f"the embedding and the head of '{facts.name}' are one matrix, which cannot be held in two ways.",
            fix="Give 'embedding' and 'head' the same scheme.",
        )
    return unsupported_context(facts, need)


def _precisions(precision: Precision) -> list[Precision]:
    """A precision, and the schemes of fewer bits."""
    bits = QuantizationConfig.of(precision).narrowest.bits
    return [precision, *(scheme for scheme in SCHEMES if scheme.bits < bits)]


def _choices(precisions: Sequence[Precision], rooms: Sequence[DeviceRoom]) -> Iterator[tuple[Precision, DeviceRoom]]:
    """Each precision on each device; int8 that nobody asked for becomes fp8 where a device calculates in that."""
    for number, precision in enumerate(precisions):
        for room in rooms:
            fp8 = number and precision is Quantization.INT8 and _has_fp8(room)
            yield Quantization.FP8 if fp8 else precision, room


def _has_fp8(room: DeviceRoom) -> bool:
    device = room.accelerator
    if device is None or device.kind != "cuda" or device.compute_capability is None:
        return False
    return device.compute_capability >= FP8_COMPUTE_CAPABILITY


def _quantization_reason(
    model: TorchModel, chosen: Precision, precisions: Sequence[Precision], need: Need, rooms: Sequence[DeviceRoom]
) -> str | None:
    """Why not in more bits; ``None`` where the weights stay in full precision."""
    bits = QuantizationConfig.of(chosen).narrowest.bits
    wider = [precision for precision in precisions if QuantizationConfig.of(precision).narrowest.bits > bits]
    if not wider:
        return None if model.facts.precision.full_precision else "it is what the checkpoint is stored in"
    largest = max(rooms, key=lambda room: room.usable)
    sizes = [model.min_memory(precision, need, largest) for precision in wider]
    needs = " and ".join(f"{precision} needs {gb(size)}" for precision, size in zip(wider, sizes, strict=True))
    return f"{needs}; {largest.describe_lack(min(sizes))}"


def _insufficient_memory(
    model: TorchModel, precision: Precision, need: Need, rooms: Sequence[DeviceRoom]
) -> Unavailable:
    """The refusal where not even ``precision`` has room, with the first of several remedies that would help."""
    largest = max(rooms, key=lambda room: room.usable)
    even = "" if need.quantization or model.facts.precision == precision else "even "
    fix = describe_fewer_tokens(model, precision, need, largest) or _describe_fewer_bits(
        model, precision, need, largest
    )
    return insufficient_memory(model, precision, need, largest, label=f"{even}in {precision}", fix=fix)


def _describe_fewer_bits(model: TorchModel, precision: Precision, need: Need, room: DeviceRoom) -> str:
    any_context = need.model_copy(update={"context_length": None})
    for narrower in _precisions(precision)[1:]:
        if model.fitting_context(narrower, any_context, room):
            return f"Pass quantization='{narrower}', or leave the choice open."
    size = gb(model.min_memory(precision, need, room))
    return f"Use a machine with {size} free in one place, or a smaller model."
