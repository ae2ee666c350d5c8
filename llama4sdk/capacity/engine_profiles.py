"""What engines can do, as data: the layouts they know, what they hold weights in, what they keep for themselves.

Ours and its peers stand side by side, so that a plan can say what engines that are not installed would do here.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

from llama4sdk._values import Value
from llama4sdk.capacity import torch_memory
from llama4sdk.capacity.kv_policies import KVPolicy, find_policy
from llama4sdk.hardware import Device, Hardware
from llama4sdk.llama4.config import TextConfig
from llama4sdk.quantization import QuantizationConfig

__all__ = [
    "ENGINES",
    "PROFILES",
    "EngineProfile",
    "LayoutKind",
    "Work",
    "find_engine",
]

LayoutKind: TypeAlias = Literal["single", "tensor", "pipeline", "expert", "layers", "offload", "cpu", "disk"]
"""One device; every matrix over several devices; layers over groups of such; whole experts on each; some layers on
each; experts in the machine's memory; all of it there; experts on disk."""

MIB: Final = 2**20
FULL: Final = 80_000_000_000
"""Bytes of a device that gets the largest batches."""

RAM_KEPT: Final = 0.05
"""The share of the machine's memory that is left to everything else."""


class Work(Value):
    """What is computed on one device, as far as its memory depends on it."""

    config: TextConfig
    precision: QuantizationConfig | None
    """``None`` for formats that are none of ours."""
    context: int
    batch: int = 1
    """Requests at once, each with that context."""
    vision: bool = False
    on_host: bool = False
    """Whether the processor computes, in the machine's memory."""
    devices: int = 1
    """Those that share every matrix with this one."""
    memory: int = FULL
    """Bytes of the whole device."""


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
    max_devices: int | None = None
    """Of a process; ``None`` for any number."""
    precisions: tuple[str, ...]
    """What it holds weights in, best first: schemes, or mixes of GGUF."""
    kv: str
    """The name of its ``KVPolicy``."""
    kv_bytes: tuple[float, ...] = (2,)
    """What a value of the cache can take, most first."""
    shares_steps: bool = True
    """Whether requests at once go through the network together, so that weights are read once for all of them."""
    runtime: int
    """The device's context and the engine's own libraries."""
    workspace: int
    """Activations of one block of a prompt, graphs, buffers."""
    workspace_together: int = 0
    """What each device takes besides when several share matrices or experts: buffers to exchange, logits, graphs.
    Engines give devices under 80 GB smaller batches; there it is in proportion."""
    workspace_per_token: int = 0
    """What grows with the context besides the cache."""
    table_rows: int = 0
    """Requests for each of which it keeps where every token lies, 4 bytes each, on every device."""
    workspace_per_position: int = 0
    """What grows with the model's window, used or not: tables of rotations."""
    utilization: float = 1.0
    """The share of a device's whole memory it takes at most."""
    static: tuple[tuple[int, float], ...] = ()
    """For so many devices and more, the share of a device that weights and cache get and nothing else does; empty where
    an engine does not divide memory beforehand."""
    margin: float = 0.02
    """The share of free memory it leaves alone: past that, devices spill silently or die."""
    embedding_on_host: bool = False
    """Whether the embedding stays in the machine's memory where experts do."""
    calibration: str
    """Whose rows of ``efficiency.csv`` its speed goes by: the name there."""
    overhead: Literal["measured", "fitted", "guessed"]
    """How the sizes above are known: from a run's log, from a published longest context, or from another version."""
    source: str

    @property
    def kv_policy(self) -> KVPolicy:
        """How it keeps keys and values."""
        return find_policy(self.kv)

    def usable_memory(self, machine: Hardware, device: Device | None) -> int:
        """Bytes it may take of a device, or of the machine's memory."""
        if device is None:
            return int(machine.free_memory * (1 - RAM_KEPT))
        return min(int(machine.free_on(device) * (1 - self.margin)), int(device.total_memory * self.utilization))

    def workspace_for(self, work: Work) -> int:
        """All but weights, cache and runtime."""
        together = int(self.workspace_together * min(1.0, work.memory / FULL)) if work.devices > 1 else 0
        table = 4 * (self.table_rows + 1) * work.context if self.table_rows else 0
        grows = self.workspace_per_token * work.context * work.batch
        return self.workspace + together + table + grows + self.workspace_per_position * work.config.max_context

    def runtime_for(self, work: Work) -> int:
        """The device's context and the engine's own libraries, for this work."""
        return self.runtime

    def static_share(self, devices: int) -> float | None:
        """What ``static`` says of so many devices."""
        return next((share for least, share in reversed(self.static) if devices >= least), None)


class TorchProfile(EngineProfile):
    """Ours, of which more is known: ``planning.sizing`` counts what each network takes."""

    def workspace_for(self, work: Work) -> int:
        """As its offers say."""
        chosen = work.precision or QuantizationConfig.of("bf16")
        return torch_memory.workspace_bytes(
            work.config, chosen, work.context, batch=work.batch, place=_place(work), vision=work.vision
        )

    def runtime_for(self, work: Work) -> int:
        """As its offers say."""
        return torch_memory.runtime_bytes(work.config, _place(work))


def _place(work: Work) -> torch_memory.Place:
    return "cpu" if work.on_host else "accelerator"


TORCH: Final = TorchProfile(
    name="torch",
    version="0.1",
    backend="torch",
    install="pip install 'llama4sdk[torch]'",
    layouts=("single", "cpu"),
    kinds=frozenset({"cuda", "rocm"}),
    precisions=("bf16", "fp8", "int8", "int4"),
    kv="llama4sdk",
    shares_steps=False,
    runtime=torch_memory.RUNTIME["accelerator"],
    workspace=0,
    calibration="torch",
    overhead="measured",
    source="benchmarks/memory.py on processors; accelerators are computed in the same way",
)

ONNX_RUNTIME: Final = EngineProfile(
    name="ONNX Runtime",
    version="1.31",
    backend="onnx",
    install="pip install 'llama4sdk[onnx]'",
    layouts=("single", "cpu"),
    kinds=frozenset({"cuda"}),
    precisions=("fp32", "fp16", "int8", "int4"),
    kv="llama4sdk",
    kv_bytes=(4, 2),
    runtime=46 * 10**6,
    workspace=100 * 10**6,
    calibration="ONNX Runtime",
    overhead="measured",
    source="exports of the demo model and of a scaled-down Scout on a processor",
)

VLLM: Final = EngineProfile(
    name="vLLM",
    version="0.32",
    backend="vllm-server",
    install="vllm serve, and pip install llama4sdk-openai",
    layouts=("single", "tensor", "pipeline", "expert"),
    kinds=frozenset({"cuda", "rocm"}),
    precisions=("bf16", "fp8", "nvfp4", "int4"),
    kv="vllm",
    kv_bytes=(2, 1),
    runtime=800_000_000,
    workspace=1_900_000_000,
    workspace_together=8_000_000_000,
    utilization=0.92,
    calibration="vLLM",
    overhead="guessed",
    source="the cache as 0.32.0 keeps it; its other needs as logs of 0.12.0 and 0.14.0rc1 show them",
)

SGLANG: Final = EngineProfile(
    name="SGLang",
    version="0.5",
    backend="sglang",
    install="sglang serve, and pip install llama4sdk-openai",
    layouts=("single", "tensor", "expert"),
    kinds=frozenset({"cuda", "rocm"}),
    precisions=("bf16", "fp8", "nvfp4"),
    kv="sglang",
    kv_bytes=(2, 1),
    runtime=800_000_000,
    workspace=1_900_000_000,
    workspace_together=3_200_000_000,
    table_rows=2048,
    static=((1, 0.88), (2, 0.87), (4, 0.85), (8, 0.81)),
    margin=0.0,
    calibration="SGLang",
    overhead="fitted",
    source="the longest contexts its documentation gives for eight H100 and H200 without hybrid cache",
)

LLAMA_CPP: Final = EngineProfile(
    name="llama.cpp",
    version="b11434",
    backend="llamacpp-server",
    install="llama-server, and pip install llama4sdk-openai",
    layouts=("single", "layers", "offload", "cpu", "disk"),
    kinds=frozenset({"cuda", "rocm", "mps"}),
    max_devices=15,  # ggml's scheduler knows 16 backends, and the processor is one
    precisions=("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"),
    kv="llama.cpp",
    kv_bytes=(2, 34 / 32),
    runtime=400 * MIB,
    workspace=500 * MIB,
    workspace_per_token=2 * 512,  # the mask of a block of 512 tokens, in fp16
    margin=0.08,
    embedding_on_host=True,
    calibration="llama.cpp",
    overhead="measured",
    source="llama-fit-params; cards filled to 92 % have been seen to spill",
)

#: The engines that a plan is compared with, ours first.
ENGINES: Final = (TORCH, VLLM, SGLANG, LLAMA_CPP)

#: All that are known: ONNX Runtime alone runs exports, which nothing else does.
PROFILES: Final = (*ENGINES, ONNX_RUNTIME)


def find_engine(name: str) -> EngineProfile:
    """The profile of this name. Raises StopIteration for an unknown one."""
    return next(profile for profile in PROFILES if profile.name == name)
