"""Which number formats a device computes with, runs without gain, or refuses. Pure.

Weights in fewer bits than a device knows are turned into bf16 as they are used, where an engine has kernels for that:
the memory is saved, the arithmetic is not. That is a verdict of its own, never a silent yes.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias, get_args

from llama4sdk.hardware import Cpu, Device
from llama4sdk.planning.quantization import ModuleClass, QuantizationConfig

__all__ = ["WORST_LAST", "Support", "Verdict", "support", "support_by_class"]

Verdict: TypeAlias = Literal["native", "no gain", "refused"]

WORST_LAST: Final[tuple[Verdict, ...]] = ("native", "no gain", "refused")


class Support(NamedTuple):
    """A verdict and its reason, a clause about the device."""

    verdict: Verdict
    reason: str
    instead: str | None = None
    """The smallest scheme it does calculate in, of at least as many bits; ``None`` where it needs none or has none."""


SINCE: Final[dict[str, tuple[int, int]]] = {
    "bf16": (8, 0),
    "fp16": (7, 0),
    "fp8": (8, 9),
    "int8": (7, 5),
    "fp4": (10, 0),
}
"""NVIDIA's compute capability from which a device calculates in a format."""

BITS: Final = {"int4": 4, "fp4": 4, "fp8": 8, "int8": 8, "bf16": 16, "fp16": 16}

CALCULATED: Final = ("fp8", "int8", "bf16", "fp16")
"""Formats that some device multiplies matrices in, smallest first; int4 is only ever unpacked."""

UNPACKED_SINCE: Final = (8, 0)
"""The compute capability that kernels need to unpack weights in fewer bits as they go."""

GGUF_SINCE: Final = (5, 0)
"""The compute capability from which llama.cpp unpacks the formats of GGUF."""

AMD: Final[dict[str, tuple[str, ...]]] = {
    "bf16": ("gfx90a", "gfx942", "gfx950", "gfx11", "gfx12"),
    "fp16": ("gfx9", "gfx10", "gfx11", "gfx12"),
    "fp8": ("gfx942", "gfx950", "gfx12"),
    "int8": ("gfx90", "gfx942", "gfx950", "gfx11", "gfx12"),
    "fp4": ("gfx950",),
}

NO_INT8: Final = ((10, 3),)
"""Devices that gave their int8 units up."""

CPU: Final[dict[str, frozenset[str]]] = {
    "bf16": frozenset({"avx512_bf16", "amx_bf16", "bf16", "sve2"}),
    "int8": frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimd"}),
}


def support(place: Device | Cpu, scheme: str) -> Support:
    """What ``place`` makes of weights in ``scheme``: ``bf16``, ``fp8``, ``int8``, ``int4``, ``fp4``, ``gguf`` …"""
    found = _support(place, scheme)
    if found.verdict == "native" or scheme == "gguf":  # llama.cpp unpacks everywhere, and calculates in its own way
        return found
    better = (other for other in CALCULATED if other != scheme and BITS[other] >= BITS[scheme])
    return found._replace(instead=next((o for o in better if _support(place, o).verdict == "native"), None))


def support_by_class(place: Device | Cpu, config: QuantizationConfig) -> dict[ModuleClass, Support]:
    """The same for the matrices of each class."""
    return {module: support(place, config.scheme(module)) for module in get_args(ModuleClass)}


def _support(place: Device | Cpu, scheme: str) -> Support:
    if scheme == "fp32":
        return Support("native", "every device calculates in fp32")
    if isinstance(place, Cpu):
        return _cpu(place, scheme)
    if place.kind == "cuda":
        return _nvidia(place, scheme)
    if place.kind == "rocm":
        return _amd(place, scheme)
    if scheme in ("bf16", "fp16", "int4", "int8", "gguf"):
        return Support("native", "Metal calculates in half precision and unpacks integers as it goes")
    return Support("refused", f"Metal knows no {scheme}")


def _cpu(cpu: Cpu, scheme: str) -> Support:
    if scheme in ("int4", "gguf", "fp8", "fp4", "fp16"):
        return Support("no gain", f"a processor unpacks {scheme} as it goes: memory is saved, arithmetic is not")
    able = sorted(CPU[scheme] & set(cpu.features))
    if able:
        return Support("native", f"this processor has {able[0]}")
    return Support("no gain", f"this processor has no instructions for {scheme}")


def _nvidia(device: Device, scheme: str) -> Support:
    have = device.compute_capability
    if have is None:
        return Support("no gain", "its compute capability is not known")
    name = f"compute capability {have[0]}.{have[1]}"
    if scheme == "int4":  # nobody calculates in it any more: everywhere it is unpacked, and the memory is the gain
        able = have >= UNPACKED_SINCE
        return Support("native" if able else "refused", f"kernels that unpack int4 need 8.0; this is {name}")
    if scheme == "gguf":
        able = have >= GGUF_SINCE
        return Support("native" if able else "refused", f"llama.cpp needs 5.0; this is {name}")
    if have >= SINCE[scheme] and not (scheme == "int8" and have in NO_INT8):
        return Support("native", f"{name} calculates in {scheme}")
    if scheme in ("bf16", "fp16"):
        return Support("no gain", f"{name} has no {scheme}: it is emulated")
    if have >= UNPACKED_SINCE:
        return Support("no gain", f"{name} does not calculate in {scheme}: weights are unpacked as they are used")
    return Support("refused", f"{name} does not calculate in {scheme}, and no kernel unpacks it there")


def _amd(device: Device, scheme: str) -> Support:
    have = device.architecture or "gfx?"
    if scheme in ("int4", "gguf") or have.startswith(AMD[scheme]):
        return Support("native", f"{have} runs {scheme}")
    if scheme in ("fp8", "int8", "bf16", "fp16"):
        return Support("no gain", f"{have} does not calculate in {scheme}: weights are unpacked as they are used")
    return Support("refused", f"{have} does not calculate in {scheme}")
