"""Predicted memory of published runs, from the layouts that plans use. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.scorecard.old_engines import find_profile
from benchmarks.scorecard.published import Published
from llama4sdk.capacity.engine_profiles import EngineProfile
from llama4sdk.capacity.gguf_sizes import GGUF_MIXES
from llama4sdk.capacity.layout import Layout, class_bytes
from llama4sdk.capacity.layouts import layouts
from llama4sdk.capacity.model_facts import ModelFacts
from llama4sdk.catalog.machine_descriptions import describe
from llama4sdk.catalog.models import ModelSpec
from llama4sdk.catalog.speeds import DISK_BANDWIDTH
from llama4sdk.hardware import Cpu, Device, Hardware

__all__ = ["PREDICT", "NotPredictedError"]

ON_HOST: Final = ("cpu", "disk")
GIB: Final = 2**30


class NotPredictedError(Exception):
    """Why there is no prediction."""


def fits(run: Published, spec: ModelSpec) -> float:
    """1 where some layout over all the run's devices has room for its context, else 0."""
    return float(any(layout.fits for layout in _layouts(run, spec, run.context)))


def max_context(run: Published, spec: ModelSpec) -> float:
    """The longest of them."""
    return max((layout.context for layout in _layouts(run, spec, None)), default=0)


def kv_pool(run: Published, spec: ModelSpec) -> float:
    """Bytes on each device that are left for the cache."""
    layout = next(iter(_layouts(run, spec, 1)), None)
    if layout is None:
        raise NotPredictedError("no layout uses exactly these devices")
    return min(share.room - (share.total - share.kv) for share in layout.shares)


def kv_capacity(run: Published, spec: ModelSpec) -> float:
    """Tokens the whole pool holds where every layer keeps all of them, as vLLM prints it."""
    assert spec.config is not None
    every = 2 * spec.config.num_layers * spec.config.num_kv_heads * spec.config.head_dim * run.kv_bytes
    return kv_pool(run, spec) * run.devices / every


def concurrency(run: Published, spec: ModelSpec) -> float:
    """Requests of the run's context that the pool holds at once."""
    assert spec.config is not None
    request = _profile(run).kv_policy.bytes(spec.config, run.context or 1, value_bytes=run.kv_bytes)
    return kv_pool(run, spec) * run.devices / request


def buffer(run: Published, spec: ModelSpec) -> float:
    """llama.cpp's buffer for a block of a prompt: logits, masks of both kinds of layers, five hidden states."""
    config, context, block = spec.config, run.context or 1, run.block or 512
    assert config is not None
    local = min(context, (config.chunk_size or context) + block)
    return block * (4 * config.vocab_size + 2 * (context + local) + 20 * config.hidden_size)


def load_seconds(run: Published, spec: ModelSpec) -> float:
    """Reading the file from an NVMe disk."""
    if not run.file_gb:
        raise NotPredictedError(f"not modelled: {run.note}")
    return run.file_gb * 1e9 / DISK_BANDWIDTH["nvme"]


def disk(run: Published, spec: ModelSpec) -> float:
    """Bytes of the files."""
    return sum(class_bytes(_model(run, spec), run.weights).values())


#: The prediction of each metric of memory.
PREDICT: Final[Mapping[str, Callable[[Published, ModelSpec], float]]] = {
    "fits": fits,
    "max_context": max_context,
    "kv_pool": kv_pool,
    "kv_capacity": kv_capacity,
    "concurrency": concurrency,
    "compute_buffer": buffer,
    "load_time": load_seconds,
    "disk": disk,
}


def _layouts(run: Published, spec: ModelSpec, context: int | None) -> list[Layout]:
    """Those over all of the run's devices."""
    every = layouts(
        _model(run, spec),
        _profile(run),
        _machine(run),
        run.weights,
        context=context,
        kv_bytes=run.kv_bytes,
    )
    return [layout for layout in every if len(set(layout.devices) - set(ON_HOST)) == run.devices]


def _model(run: Published, spec: ModelSpec) -> ModelFacts:
    """GGUF files have the text network alone."""
    assert spec.config is not None
    vision = 0 if run.weights in GGUF_MIXES else spec.vision_parameters
    return ModelFacts(name=spec.name, config=spec.config, vision_parameters=vision)


def _profile(run: Published) -> EngineProfile:
    if not run.engine:
        raise NotPredictedError(f"not modelled: {run.note}")
    profile = find_profile(run.engine, run.version)
    changes: dict[str, object] = {"kv": run.kv} if run.kv else {}
    return profile.model_copy(update=changes)


def _machine(run: Published) -> Hardware:
    """Idle; ``80 GB`` stands for any device with so much memory."""
    ram = int((run.ram_gb or 1000) * 1e9)
    size = re.fullmatch(r"(\d+) GB", run.device)
    if size is None:
        return describe(f"{run.devices}x{run.device}", ram=ram)
    memory = int(size[1]) * GIB
    return Hardware(
        system="Linux x86_64",
        cpu=Cpu(name="unknown", cores=16),
        total_memory=ram,
        free_memory=ram,
        devices=tuple(
            Device(kind="cuda", index=index, name=run.device, total_memory=memory, free_memory=memory)
            for index in range(run.devices)
        ),
    )
