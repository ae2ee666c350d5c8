"""What engines can do, as data: the layouts they know, what they hold weights in, what they keep for themselves.

Ours and its peers stand side by side, so that a plan can say what would run here with what is not installed.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from llama4sdk._values import Value
from llama4sdk.planning.kv_policies import KVPolicy, find_policy

__all__ = ["ENGINES", "EngineProfile", "LayoutKind", "find_engine"]

LayoutKind: TypeAlias = Literal["single", "tensor", "layers", "offload", "cpu", "disk"]
"""One device; every matrix over several devices; some layers on each; experts in the machine's memory; all of it there;
experts on disk."""

GIB: Final = 2**30
MIB: Final = 2**20


class EngineProfile(Value):
    """One engine in one range of versions. Sizes are in bytes per device."""

    name: str
    version: str
    backend: str
    """The backend that runs it here, when it is installed."""
    install: str
    layouts: tuple[LayoutKind, ...]
    kinds: frozenset[str]
    """Devices it drives."""
    precisions: tuple[str, ...]
    """What it holds weights in, best first: schemes, or mixes of GGUF."""
    kv: str
    """The name of its ``KVPolicy``."""
    runtime: int
    """The device's context and the engine's own libraries."""
    workspace: int
    """Activations of one block of a prompt, graphs, buffers."""
    workspace_per_token: int = 0
    """What grows with the context besides the cache."""
    utilization: float = 1.0
    """The share of a device's whole memory it takes at most."""
    margin: float = 0.02
    """The share of free memory it leaves alone: past that, devices spill silently or die."""
    calibration: str
    """``CALIBRATIONS`` of this engine's speed: its name and version."""
    source: str

    @property
    def kv_policy(self) -> KVPolicy:
        """How it keeps keys and values."""
        return find_policy(self.kv)


ENGINES: Final = (
    EngineProfile(
        name="torch",
        version="0.1",
        backend="torch",
        install="pip install 'llama4sdk[torch]'",
        layouts=("single", "cpu"),
        kinds=frozenset({"cuda", "rocm"}),
        precisions=("bf16", "fp8", "int8", "int4"),
        kv="llama4sdk",
        runtime=512 * MIB,
        workspace=1536 * MIB,
        workspace_per_token=512,
        calibration="torch",
        source="this project",
    ),
    EngineProfile(
        name="vLLM",
        version="0.14",
        backend="vllm",
        install="pip install llama4sdk-vllm",
        layouts=("single", "tensor"),
        kinds=frozenset({"cuda", "rocm"}),
        precisions=("bf16", "fp8", "nvfp4", "int4"),
        kv="vllm-0.14",
        runtime=int(0.8e9),
        workspace=int(1.9e9),
        utilization=0.9,
        calibration="vLLM",
        source="log of 0.14.0rc1 on one RTX PRO 6000; several devices take more",
    ),
    EngineProfile(
        name="llama.cpp",
        version="b11434",
        backend="llamacpp-server",
        install="llama-server, and pip install llama4sdk-openai",
        layouts=("single", "layers", "offload", "cpu", "disk"),
        kinds=frozenset({"cuda", "rocm", "mps"}),
        precisions=("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"),
        kv="llama.cpp",
        runtime=400 * MIB,
        workspace=600 * MIB,
        margin=0.08,
        calibration="llama.cpp",
        source="llama-fit-params; cards filled to 92 % have been seen to spill",
    ),
)
"""Those a plan is made for; ours first."""


def find_engine(name: str) -> EngineProfile:
    """The profile of this name."""
    return next(engine for engine in ENGINES if engine.name == name)
