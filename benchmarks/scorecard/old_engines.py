"""Profiles and calibrations of engines and versions that something was published of, and that plans do not consider."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

from llama4sdk.capacity.engine_profiles import LLAMA_CPP, PROFILES, SGLANG, VLLM, EngineProfile
from llama4sdk.capacity.roofline import Calibration
from llama4sdk.capacity.sites import read_calibrations

__all__ = ["OLD_PROFILES", "find_profile", "old_calibrations"]

VLLM_0_14: Final = VLLM.model_copy(
    update={
        "version": "0.14",
        "kv": "vllm-0.14",
        "utilization": 0.9,
        "source": "measured: log of 0.14.0rc1 on one RTX PRO 6000; several devices as in 0.12",
    }
)

VLLM_0_12: Final = VLLM_0_14.model_copy(
    update={
        "version": "0.12",
        "workspace_together": 5_300_000_000,
        "workspace_per_position": 256,  # sines and cosines of 64 pairs in bf16, on every device
        "source": "measured: log of 0.12.0 on eight H200: 89.71 GiB are left for the cache",
    }
)

VLLM_0_8: Final = VLLM_0_12.model_copy(
    update={
        "version": "0.8.3",
        "workspace_together": 9_800_000_000,
        "source": "fitted: the longest contexts its authors published of eight H100; a log of theirs agrees",
    }
)

VLLM_0_22: Final = VLLM_0_14.model_copy(
    update={
        "version": "0.22",
        "source": "guessed: as 0.14; since when its cache knows chunks is not said",
    }
)

SGLANG_FULL: Final = SGLANG.model_copy(update={"version": "0.4", "kv": "sglang-full"})

KTRANSFORMERS: Final = LLAMA_CPP.model_copy(
    update={
        "name": "KTransformers",
        "version": "2025",
        "layouts": ("offload",),
        "margin": 0.02,
        "source": "guessed: as llama.cpp",
    }
)

META: Final = EngineProfile(
    name="llama-models",
    version="0.3",
    backend="",
    install="Meta's own scripts",
    layouts=("single", "tensor"),
    kinds=frozenset({"cuda"}),
    precisions=("bf16", "fp8_mixed", "int4_mixed"),
    kv="transformers",
    runtime=800_000_000,
    workspace=2_000_000_000,
    source="guessed: its README names the devices it was run on",
)

TRANSFORMERS: Final = META.model_copy(
    update={
        "name": "transformers",
        "version": "5",
        "install": "pip install transformers",
        "layouts": ("single", "layers", "cpu"),
        "precisions": ("bf16", "bnb-4bit"),
        "source": "guessed: as Meta's scripts",
    }
)

OLD_PROFILES: Final = (
    *(VLLM_0_8, VLLM_0_12, VLLM_0_14, VLLM_0_22),
    *(SGLANG_FULL, KTRANSFORMERS, META, TRANSFORMERS),
)


def find_profile(name: str, version: str) -> EngineProfile:
    """The profile of this version, else the newest of this name. Raises StopIteration for an unknown name."""
    profiles = (*OLD_PROFILES, *PROFILES)
    exact = next((p for p in profiles if (p.name, p.version) == (name, version)), None)
    return exact or next(p for p in reversed(profiles) if p.name == name)


@cache
def old_calibrations() -> tuple[Calibration, ...]:
    """The rows of ``old_efficiency.csv``."""
    with (Path(__file__).parent / "old_efficiency.csv").open(encoding="utf-8") as file:
        return read_calibrations(file)
