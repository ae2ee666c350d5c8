"""What keeps models from being fetched, fitted or run as planned, and what to do about it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from llama4sdk import weights
from llama4sdk._text import gb
from llama4sdk.catalog import models as catalog
from llama4sdk.diagnostics.machine import Check, check
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan

__all__ = ["describe_devices", "describe_libraries", "describe_models", "describe_room"]

HUB_KEYS: Final = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "~/.cache/huggingface/token"})
CROWDED: Final = 1_000_000_000
"""Bytes of swap in use from which on memory is short."""
TIGHT: Final = 0.9
"""The share of free main memory above which a plan leaves too little for everything else."""


def describe_devices(hardware: Hardware, environment: Mapping[str, str]) -> Iterator[Check]:
    """What this machine's devices hide from plans; ``environment`` holds the variables that are set."""
    if hardware.memory_bandwidth is None:
        fix = "llama4sdk doctor --bench"
        yield check("machine", "info", "Speed", "not measured, so predictions guess", fix)
    names = {device.name for device in hardware.devices if device.kind == "cuda"}
    if len(names) > 1 and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        text = "CUDA counts GPUs of several kinds from the fastest, this list by their slots: numbers may differ"
        yield check("machine", "info", "Numbering", text, "export CUDA_DEVICE_ORDER=PCI_BUS_ID")
    if any(device.slice for device in hardware.devices):
        text = "MIG slices are gone when the machine restarts"
        fix = "Have them made again at every start, as by NVIDIA's mig-parted."
        yield check("machine", "info", "Slices", text, fix)


def describe_room(hardware: Hardware, plan: Plan | None, *, home: Path) -> Iterator[Check]:
    """Whether memory and disk are as free as a plan takes them to be."""
    swapped = hardware.total_swap - hardware.free_swap
    if swapped > CROWDED:
        text = f"{gb(swapped)} in use: memory has been short, and a model that is swapped out crawls"
        yield check("machine", "info", "Swap", text, "Close what is not needed.")
    if plan is None or plan.placement.kind == "remote":
        return
    need = plan.memory.get("cpu", 0)
    if need > TIGHT * hardware.free_memory:
        text = f"the plan takes {gb(need)} of the {gb(hardware.free_memory)} that are free"
        yield check("plan", "info", "Tight", text, "Close what is not needed, or ask for a shorter context.")
    size, room = plan.weight_bytes, hardware.disk_free
    if plan.source is None and size is not None and room is not None and size > room:
        text = f"{plan.model} takes {gb(size)} at least; {gb(room)} are free in {home}"
        yield check("plan", "warn", "Disk", text, "Free some space, or set LLAMA4SDK_HOME to a larger disk.")


def describe_libraries(hardware: Hardware, outdated: Mapping[str, tuple[tuple[str, str, str], ...]]) -> Iterator[Check]:
    """Installed libraries that cannot work together; ``outdated`` has name, version and least by distribution."""
    names = {runtime.name for runtime in hardware.runtimes}
    if {"onnxruntime", "onnxruntime-gpu"} <= names:
        text = "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files"
        fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        yield check("backends", "warn", "ONNX", text, fix)
    for distribution, parts in outdated.items():
        for name, have, least in parts:
            text = f"{distribution} needs {name} {least} or newer; {have} is installed"
            yield check("backends", "warn", name, text, f"pip install -U '{name}>={least}'")


def describe_models(
    hardware: Hardware, models: Mapping[str, Path | None], unfinished: Mapping[str, tuple[Path, int]]
) -> Iterator[Check]:
    """Where each model is, or how to get it; ``unfinished`` has the place and bytes of those that began to arrive."""
    gated = []
    for name, path in models.items():
        spec = catalog.find(name)
        title = spec.title if spec else name
        if path is not None:
            yield check("models", "ok", name, f"{title}, {path}")
            continue
        ours = weights.can_pull(name)
        if not ours:
            gated.append(name)
        fix = f"llama4sdk pull {name}" + ("" if ours else " (says how)")
        if begun := unfinished.get(name):
            text = f"{title}, only in part: {gb(begun[1])} in {begun[0]}"
            again = fix if ours or spec is None else f"hf download {spec.repository} (goes on)"
            yield check("models", "info", name, text, again)
        else:
            yield check("models", "info", name, "not on this machine", fix)
    if gated and not HUB_KEYS.intersection(hardware.credentials):
        text = "Llama 4's weights are gated, and no Hugging Face token is here"
        repository = (catalog.find(gated[0]) or catalog.SCOUT).repository
        fix = f"Accept the licence at https://huggingface.co/{repository}, then 'hf auth login'."
        yield check("models", "info", "Licence", text, fix)
