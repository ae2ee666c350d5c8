"""Checks of what keeps models from being fetched, from fitting, or from running as planned. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from llama4sdk import weights
from llama4sdk._text import gb
from llama4sdk.catalog import models as catalog
from llama4sdk.diagnostics.facts import ModelPaths, OutdatedPackages, PartialDownloads
from llama4sdk.diagnostics.machine import Check, make_check
from llama4sdk.hardware import Hardware
from llama4sdk.plan import Plan

HUB_KEYS: Final = frozenset({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "~/.cache/huggingface/token"})
#: Swap in use from which on memory counts as short.
MAX_SWAP_BYTES: Final = 1_000_000_000
#: The share of free main memory above which a plan leaves too little for everything else.
MAX_MEMORY_SHARE: Final = 0.9


def check_devices(hardware: Hardware, environment: Mapping[str, str]) -> Iterator[Check]:
    """Properties of the devices that plans do not show; ``environment`` holds the variables that are set."""
    if hardware.memory_bandwidth is None:
        fix = "llama4sdk doctor --bench"
        yield make_check("machine", "info", "Speed", "not measured, so predictions guess", fix)
    names = {device.name for device in hardware.devices if device.kind == "cuda"}
    if len(names) > 1 and environment.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        text = "CUDA counts GPUs of several kinds from the fastest, this list by their slots: numbers may differ"
        yield make_check("machine", "info", "Numbering", text, "export CUDA_DEVICE_ORDER=PCI_BUS_ID")
    if any(device.slice for device in hardware.devices):
        text = "MIG slices are gone when the machine restarts"
        fix = "Have them made again at every start, as by NVIDIA's mig-parted."
        yield make_check("machine", "info", "Slices", text, fix)


def check_free_space(hardware: Hardware, plan: Plan | None, *, home: Path) -> Iterator[Check]:
    """Memory and disk that are less free than a plan needs them to be."""
    swapped = hardware.total_swap - hardware.free_swap
    if swapped > MAX_SWAP_BYTES:
        text = f"{gb(swapped)} in use: memory has been short, and a model that is swapped out crawls"
        yield make_check("machine", "info", "Swap", text, "Close what is not needed.")
    if plan is None or plan.placement.kind == "remote":
        return
    need = plan.memory.get("cpu", 0)
    if need > MAX_MEMORY_SHARE * hardware.free_memory:
        text = f"the plan takes {gb(need)} of the {gb(hardware.free_memory)} that are free"
        yield make_check("plan", "info", "Tight", text, "Close what is not needed, or ask for a shorter context.")
    size, free = plan.weight_bytes, hardware.disk_free
    if plan.source is None and size is not None and free is not None and size > free:
        text = f"{plan.model} takes {gb(size)} at least; {gb(free)} are free in {home}"
        yield make_check("plan", "warn", "Disk", text, "Free some space, or set LLAMA4SDK_HOME to a larger disk.")


def check_libraries(hardware: Hardware, outdated: OutdatedPackages) -> Iterator[Check]:
    """Installed libraries that cannot work together."""
    names = {runtime.name for runtime in hardware.runtimes}
    if {"onnxruntime", "onnxruntime-gpu"} <= names:
        text = "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files"
        fix = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        yield make_check("backends", "warn", "ONNX", text, fix)
    for distribution, packages in outdated.items():
        for name, version, least in packages:
            text = f"{distribution} needs {name} {least} or newer; {version} is installed"
            yield make_check("backends", "warn", name, text, f"pip install -U '{name}>={least}'")


def check_models(hardware: Hardware, models: ModelPaths, partial_downloads: PartialDownloads) -> Iterator[Check]:
    """Where each model is, or how to get it."""
    gated = []
    for name, path in models.items():
        spec = catalog.find(name)
        title = spec.title if spec else name
        if path is not None:
            yield make_check("models", "ok", name, f"{title}, {path}")
            continue
        can_pull = weights.can_pull(name)
        if not can_pull:
            gated.append(name)
        fix = f"llama4sdk pull {name}" + ("" if can_pull else " (says how)")
        if part := partial_downloads.get(name):
            text = f"{title}, only in part: {gb(part[1])} in {part[0]}"
            again = fix if can_pull or spec is None else f"hf download {spec.repository} (goes on)"
            yield make_check("models", "info", name, text, again)
        else:
            yield make_check("models", "info", name, "not on this machine", fix)
    if gated and not HUB_KEYS.intersection(hardware.credentials):
        text = "Llama 4's weights are gated, and no Hugging Face token is here"
        repository = (catalog.find(gated[0]) or catalog.SCOUT).repository
        fix = f"Accept the licence at https://huggingface.co/{repository}, then 'hf auth login'."
        yield make_check("models", "info", "Licence", text, fix)
