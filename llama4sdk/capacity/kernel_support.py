"""Which number formats a device computes with, runs without gain, or refuses; and in which engine. Pure.

Weights in fewer bits than a device knows are turned into bf16 as they are used, where an engine has kernels for that:
the memory is saved, the arithmetic is not. That is a verdict of its own, never a silent yes. The devices decide what is
native; what is merely unpacked is up to the engine and its version, in ``KERNELS``.
"""

from __future__ import annotations

import re
from typing import Final, Literal, NamedTuple, TypeAlias

from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.hardware import Cpu, Device, DeviceKind

Verdict: TypeAlias = Literal["native", "no gain", "refused"]

WORST_LAST: Final[tuple[Verdict, ...]] = ("native", "no gain", "refused")


class Support(NamedTuple):
    """A verdict on a format, with its reason as a clause about the device."""

    verdict: Verdict
    reason: str
    #: The smallest scheme it does calculate in, of at least as many bits; ``None`` where it needs none or has none.
    instead: str | None = None


class Kernel(NamedTuple):
    """Formats that an engine unpacks as it multiplies, the version it does so since, and the devices."""

    engine: str
    since: tuple[int, ...]
    schemes: tuple[str, ...]
    kinds: tuple[DeviceKind, ...]
    source: str
    #: NVIDIA's compute capability from which on.
    capability: tuple[int, int] = (0, 0)


GPUS: Final[tuple[DeviceKind, ...]] = ("cuda", "rocm")
MARLIN: Final = "its Marlin kernels, whose mixtures take Llama 4's router since github.com/vllm-project/vllm/pull/20457"
TURING: Final = "docs.vllm.ai, the table of supported hardware: not with 0.15, but later"

#: Kernels of engines that are not named stand under ``""``. SGLang has none for mixtures in fp8 where devices do not
#: calculate in it (github.com/sgl-project/sglang/issues/12887): it stops there.
KERNELS: Final = (
    Kernel("vLLM", (0, 8), ("int4", "int8"), ("cuda",), "docs.vllm.ai, the table of supported hardware", (8, 0)),
    Kernel("vLLM", (0, 10), ("fp8", "fp4"), ("cuda",), MARLIN, (8, 0)),
    Kernel("vLLM", (0, 16), ("int4", "int8", "fp8", "fp4"), ("cuda",), TURING, (7, 5)),
    Kernel("vLLM", (0, 12), ("int4",), ("rocm",), "its Triton kernels, github.com/vllm-project/vllm/pull/27187"),
    Kernel("SGLang", (0, 5), ("fp4",), ("cuda",), "Marlin, github.com/sgl-project/sglang/pull/19652", (7, 5)),
    Kernel("llama.cpp", (), ("gguf",), GPUS, "github.com/ggml-org/llama.cpp/pull/11984; built with CUDA 12", (5, 0)),
    Kernel("", (), ("int4", "int8", "fp8", "fp4"), GPUS, "what kernels usually need", (8, 0)),
    Kernel("", (), ("gguf",), GPUS, "as llama.cpp", (5, 0)),
)

#: The engine without kernels for quantized weights: it unpacks them with common operators, on any device.
UNPACKING_ENGINE: Final = "torch"

#: NVIDIA's compute capability from which a device calculates in a format.
NVIDIA_SINCE: Final[dict[str, tuple[int, int]]] = {
    "bf16": (8, 0),
    "fp16": (7, 0),
    "fp8": (8, 9),
    "int8": (7, 5),
    "fp4": (10, 0),
}

BITS: Final = {"int4": 4, "fp4": 4, "fp8": 8, "int8": 8, "bf16": 16, "fp16": 16}

#: Formats that some device multiplies matrices in, smallest first; int4 is only ever unpacked.
CALCULATED: Final = ("fp8", "int8", "bf16", "fp16")

#: AMD's architectures that calculate in a format; in MXFP4 some do, but in NVFP4 none.
AMD_ARCHITECTURES: Final[dict[str, tuple[str, ...]]] = {
    "bf16": ("gfx90a", "gfx942", "gfx950", "gfx11", "gfx12"),
    "fp16": ("gfx9", "gfx10", "gfx11", "gfx12"),
    "fp8": ("gfx942", "gfx950", "gfx12"),
    "int8": ("gfx90", "gfx942", "gfx950", "gfx11", "gfx12"),
}

NEVER: Final = (99, 0)

#: Formats that no device calculates in: where they can be unpacked, they count as native.
ONLY_UNPACKED: Final = ("int4", "gguf")

#: NVIDIA's compute capabilities without int8 units, after older ones had them.
NO_INT8: Final = ((10, 3),)

#: Instructions that a processor needs to calculate in a format.
CPU_FEATURES: Final[dict[str, frozenset[str]]] = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16", "sve2"}),
    "int8": frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimd"}),
}


def support(processor: Device | Cpu, scheme: str, engine: EngineProfile | None = None) -> Support:
    """The verdict on weights in a ``scheme``: ``bf16``, ``fp8``, ``int8``, ``int4``, ``fp4``, ``gguf`` and so on.

    Without an ``engine``, in one whose kernels need the usual capabilities.
    """
    verdict = _support(processor, scheme, engine)
    if verdict.verdict == "native" or scheme == "gguf":  # llama.cpp unpacks everywhere, and calculates in its own way
        return verdict
    better = (other for other in CALCULATED if other != scheme and BITS[other] >= BITS[scheme])
    native = (other for other in better if _support(processor, other, engine).verdict == "native")
    return verdict._replace(instead=next(native, None))


def _support(processor: Device | Cpu, scheme: str, engine: EngineProfile | None) -> Support:
    if scheme == "fp32":
        return Support("native", "every device calculates in fp32")
    if engine is not None and engine.name == UNPACKING_ENGINE and scheme not in ("bf16", "fp16"):
        return Support("no gain", f"{engine.name} unpacks {scheme} with common operators as it goes")
    if isinstance(processor, Cpu):
        return _cpu(processor, scheme)
    if processor.kind != "mps":
        return _gpu(processor, scheme, engine)
    if scheme in ("bf16", "fp16", "int4", "int8", "gguf"):
        return Support("native", "Metal calculates in half precision and unpacks integers as it goes")
    return Support("refused", f"Metal knows no {scheme}")


def _cpu(cpu: Cpu, scheme: str) -> Support:
    if scheme in ("int4", "gguf", "fp8", "fp4", "fp16"):
        return Support("no gain", f"a processor unpacks {scheme} as it goes: memory is saved, arithmetic is not")
    able = sorted(CPU_FEATURES[scheme] & set(cpu.features))
    if able:
        return Support("native", f"this processor has {able[0]}")
    return Support("no gain", f"this processor has no instructions for {scheme}")


def _gpu(device: Device, scheme: str, engine: EngineProfile | None) -> Support:
    """The verdict of a device by NVIDIA or AMD; on AMD's, kernels run whatever the architecture."""
    capability = device.compute_capability
    if device.kind == "rocm":
        name = device.architecture or "gfx?"
        native = name.startswith(AMD_ARCHITECTURES.get(scheme, ()))
    elif capability is None:
        return Support("no gain", "its compute capability is not known")
    else:
        name = f"compute capability {capability[0]}.{capability[1]}"
        native = capability >= NVIDIA_SINCE.get(scheme, NEVER) and not (scheme == "int8" and capability in NO_INT8)
    if native:
        return Support("native", f"{name} calculates in {scheme}")
    if scheme in ("bf16", "fp16"):
        return Support("no gain", f"{name} has no {scheme}: it is emulated")
    reason = f"{name} does not calculate in {scheme}"
    needed = min((kernel.capability for kernel in _kernels(device.kind, scheme, engine)), default=None)
    if needed is not None and (device.kind == "rocm" or (capability or NEVER) >= needed):
        verdict: Verdict = "native" if scheme in ONLY_UNPACKED else "no gain"
        return Support(verdict, f"{reason}: weights are unpacked as they are used")
    within = f" in {engine.name} {engine.version}" if engine else ""
    since = f" below {needed[0]}.{needed[1]}" if needed else ""
    return Support("refused", f"{reason}, and{within} no kernel unpacks it{since}")


def _kernels(kind: DeviceKind, scheme: str, engine: EngineProfile | None) -> list[Kernel]:
    """The kernels of this engine up to its version, or the usual ones where nothing is known of it."""
    name = engine.name if engine and any(kernel.engine == engine.name for kernel in KERNELS) else ""
    version = tuple(int(part) for part in re.findall(r"\d+", engine.version)) if engine else ()
    matching = [kernel for kernel in KERNELS if kind in kernel.kinds and scheme in kernel.schemes]
    return [kernel for kernel in matching if kernel.engine == name and (not name or version >= kernel.since)]
