"""A layout: the bytes on each device of one way to run a model. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, get_args

from llama4sdk._text import gb
from llama4sdk._values import Value
from llama4sdk.capacity.engine_profiles import LayoutKind
from llama4sdk.capacity.gguf_sizes import GGUF_MIXES, gguf_class_bytes
from llama4sdk.capacity.model_facts import AS_STORED, ModelFacts
from llama4sdk.llama4 import sizes as exact
from llama4sdk.quantization import LINEAR, ModuleClass, Quantization, QuantizationConfig

#: Bits of a weight in NVFP4, with its scales.
FP4_BITS: Final = 4.5

#: Meta's own checkpoints, whose routed experts alone are quantized; and bitsandbytes, which looks for matrices and so
#: leaves just those alone, for they are one tensor of three dimensions.
PUBLISHED_MIXES: Final = {
    "fp8_mixed": QuantizationConfig(experts=Quantization.FP8),
    "int4_mixed": QuantizationConfig(experts=Quantization.INT4),
    "bnb-4bit": QuantizationConfig(
        attention=Quantization.INT4, shared_expert=Quantization.INT4, dense=Quantization.INT4, group_size=64
    ),
}

#: Number formats by the names of mixes and of NVIDIA's format.
NUMBER_FORMATS: Final = {"nvfp4": "fp4", "fp8_mixed": "fp8", "int4_mixed": "int4", "bnb-4bit": "int4"}


class DeviceShare(Value):
    """One device's part of a layout, in bytes; ``room`` is as much of the device as may be taken."""

    device: str
    weights: dict[ModuleClass, int]
    kv: int
    workspace: int
    runtime: int
    room: int
    #: The part of the room that only weights and cache may use, where an engine divides it beforehand.
    static_room: int | None = None

    @property
    def total(self) -> int:
        """Weights, cache, working memory and runtime."""
        return self.static + self.workspace + self.runtime

    @property
    def static(self) -> int:
        """Weights and cache, which stay as they are while the engine runs."""
        return sum(self.weights.values()) + self.kv

    @property
    def missing(self) -> int:
        """Bytes short; 0 where it fits."""
        short = self.total - self.room
        if self.static_room is not None:
            dynamic_room = self.room - self.static_room
            short = max(short, self.static - self.static_room, self.total - self.static - dynamic_room)
        return max(0, short)


class Layout(Value):
    """One way to run a model. ``context`` is the longest single context it has room for, or the one asked for."""

    model: str
    engine: str
    kind: LayoutKind
    precision: str
    shares: tuple[DeviceShare, ...]
    context: int
    #: The longest context the model knows.
    window: int
    #: The worst verdict of its devices on the precision, and why.
    support: tuple[str, str]
    #: The precision its devices would do better with, and the memory that takes; empty where there is none.
    remedy: str = ""
    #: Layers whose experts lie with the rest on accelerators, of an offloaded layout.
    experts_on_device: int = 0
    #: Devices that share every matrix of attention.
    tensor: int = 1
    #: Requests that may use the context at once.
    batch: int = 1
    #: Bytes of a value of the cache.
    kv_bytes: float = 2

    @property
    def missing(self) -> int:
        """Bytes short on the device that lacks most."""
        return max(share.missing for share in self.shares)

    @property
    def fits(self) -> bool:
        """Whether every device has the room, and the model the window."""
        return self.missing == 0 and 0 < self.context <= self.window

    @property
    def usable(self) -> bool:
        """Whether it fits, and no device refuses the precision."""
        return self.fits and self.support[0] != "refused"

    @property
    def verdict(self) -> str:
        """``fits``, ``fits, no gain`` or ``refused``; or what is missing, with the device that lacks most."""
        if self.context > self.window:
            return f"the model's window is {self.window:,} tokens"
        if not self.fits:
            worst = max(self.shares, key=lambda share: share.missing)
            return f"lacks {gb(worst.missing)} ({worst.device})"
        return {"native": "fits", "no gain": "fits, no gain"}.get(self.support[0], "refused")

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices it lies on, the machine's memory as ``cpu``."""
        return tuple(share.device for share in self.shares)


def class_bytes(model: ModelFacts, precision: str) -> dict[ModuleClass, int]:
    """Bytes of all weights by class: in a scheme, a published mix, a mix of GGUF, or as stored; vision included."""
    if model.stored is not None and precision == model.stored.precision:
        return dict(model.stored.class_bytes)
    scheme, width = config_of(precision), 2
    if precision in GGUF_MIXES:
        sizes = gguf_class_bytes(model.config, precision)
    elif precision == "nvfp4":
        full = exact.class_bytes(model.config, QuantizationConfig.of("bf16"))
        packed = set(LINEAR) - {"attention"}
        sizes = {part: int(size * FP4_BITS / 16) if part in packed else size for part, size in full.items()}
    else:
        scheme = scheme or QuantizationConfig.of(precision)
        sizes, width = exact.class_bytes(model.config, scheme), scheme.dtype.bits // 8
    return {**sizes, "vision": width * model.vision_parameters} if model.vision_parameters else sizes


def weight_parts(parts: Mapping[str, int]) -> dict[ModuleClass, int]:
    """The bytes of the weights, by class, of a breakdown of memory."""
    return {module: parts[module] for module in get_args(ModuleClass) if module in parts}


def config_of(precision: str) -> QuantizationConfig | None:
    """The scheme of each class; ``None`` for formats that the SDK's engines do not hold: those of GGUF, and nvfp4."""
    form = precision.removesuffix(AS_STORED)
    if _is_gguf(form) or form == "nvfp4":
        return None
    return PUBLISHED_MIXES.get(form) or QuantizationConfig.of(form)


def scheme_of(precision: str) -> str:
    """The number format of a precision's weights; those of GGUF count as one, for llama.cpp unpacks them all."""
    form = precision.removesuffix(AS_STORED)
    if _is_gguf(form):
        return "gguf"
    return NUMBER_FORMATS.get(form) or form.partition("-")[0]


def _is_gguf(form: str) -> bool:
    return form in GGUF_MIXES or form.isupper()
