"""Engines as data: the layouts they know, the precisions they hold weights in, the memory they take for themselves.

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

#: One device; every matrix over several devices; layers over groups of such; whole experts on each; some layers on
#: each; experts in the machine's memory; everything there; experts on disk.
LayoutKind: TypeAlias = Literal["single", "tensor", "pipeline", "expert", "layers", "offload", "cpu", "disk"]

MIB: Final = 2**20

#: Bytes of a device that engines give their largest batches.
LARGE_DEVICE_BYTES: Final = 80_000_000_000

#: The share of the machine's memory that is left to everything else.
RESERVED_RAM_SHARE: Final = 0.05


class Work(Value):
    """The computation on one device, as far as its memory depends on it."""

    config: TextConfig
    #: ``None`` for formats that the SDK's own engines do not hold.
    precision: QuantizationConfig | None
    context: int
    #: Requests at once, each with that context.
    batch: int = 1
    vision: bool = False
    memory_kind: torch_memory.MemoryKind = "accelerator"
    #: Devices that share every matrix, this one included.
    devices: int = 1
    #: Bytes of the whole device.
    memory: int = LARGE_DEVICE_BYTES


class EngineProfile(Value):
    """One engine in one range of versions. Sizes are in bytes per device."""

    #: As in ``efficiency.csv``, whose rows its speed goes by.
    name: str
    version: str
    #: The backend that runs it here, when it is installed.
    backend: str
    install: str
    layouts: tuple[LayoutKind, ...]
    #: Kinds of devices it drives.
    kinds: frozenset[str]
    #: Devices one process drives; ``None`` for any number.
    max_devices: int | None = None
    #: Schemes, or mixes of GGUF, that it holds weights in, best first.
    precisions: tuple[str, ...]
    #: The name of its ``KVPolicy``.
    kv: str
    #: Sizes that a value of its cache can have, largest first.
    kv_bytes: tuple[float, ...] = (2,)
    #: The device's context and the engine's own libraries.
    runtime: int
    #: Activations of one block of a prompt, graphs, buffers.
    workspace: int
    #: Taken besides on each device when several share matrices or experts: exchange buffers, logits, graphs. In
    #: proportion on devices under 80 GB, which engines give smaller batches.
    workspace_together: int = 0
    #: Grows with each token of the context, besides the cache.
    workspace_per_token: int = 0
    #: Requests for each of which a table on every device holds where its tokens lie, 4 bytes a token.
    table_rows: int = 0
    #: Grows with the model's window, used or not: tables of rotations.
    workspace_per_position: int = 0
    #: The share of a device's whole memory that it takes at most.
    utilization: float = 1.0
    #: For so many devices and more, the share of a device that only weights and cache may use; empty where an engine
    #: does not divide memory beforehand.
    static: tuple[tuple[int, float], ...] = ()
    #: The share of free memory it leaves alone: past that, devices spill silently or fail.
    margin: float = 0.02
    #: Whether the embedding stays in the machine's memory where experts do.
    embedding_on_host: bool = False
    #: Whether the sizes are measured, fitted to published longest contexts, or guessed; and from what.
    source: str

    @property
    def kv_policy(self) -> KVPolicy:
        """Its policy for keys and values."""
        return find_policy(self.kv)

    def usable_memory(self, machine: Hardware, device: Device | None) -> int:
        """Bytes it may take of a device, or of the machine's memory (``None``)."""
        if device is None:
            return int(machine.free_memory * (1 - RESERVED_RAM_SHARE))
        return min(int(machine.free_on(device) * (1 - self.margin)), int(device.total_memory * self.utilization))

    def workspace_for(self, work: Work) -> int:
        """Bytes beside weights, cache and runtime."""
        size_factor = min(1.0, work.memory / LARGE_DEVICE_BYTES)
        together = int(self.workspace_together * size_factor) if work.devices > 1 else 0
        table = 4 * (self.table_rows + 1) * work.context if self.table_rows else 0
        tokens = self.workspace_per_token * work.context * work.batch
        return self.workspace + together + table + tokens + self.workspace_per_position * work.config.max_context

    def runtime_for(self, work: Work) -> int:
        """Bytes of the device's context and the engine's own libraries."""
        return self.runtime

    def static_share(self, devices: int) -> float | None:
        """The share of each of so many devices that only weights and cache may use; ``None`` for no division."""
        return next((share for count, share in reversed(self.static) if devices >= count), None)


class TorchProfile(EngineProfile):
    """The SDK's own engine, of which more is known: ``torch_memory`` counts the bytes of each network."""

    def workspace_for(self, work: Work) -> int:
        """Bytes beside weights, cache and runtime, as in its offers."""
        scheme = work.precision or QuantizationConfig.of("bf16")
        return torch_memory.workspace_bytes(
            work.config, scheme, work.context, batch=work.batch, memory_kind=work.memory_kind, vision=work.vision
        )

    def runtime_for(self, work: Work) -> int:
        """Bytes of torch or of the device's context, as in its offers."""
        return torch_memory.runtime_bytes(work.config, work.memory_kind)


TORCH: Final = TorchProfile(
    name="torch",
    version="0.1",
    backend="torch",
    install="pip install 'llama4sdk[torch]'",
    layouts=("single", "cpu"),
    kinds=frozenset({"cuda", "rocm"}),
    precisions=("bf16", "fp8", "int8", "int4"),
    kv="llama4sdk",
    runtime=torch_memory.RUNTIME_BYTES["accelerator"],
    workspace=0,
    source="measured: benchmarks/memory.py on processors; accelerators are computed in the same way",
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
    source="measured: exports of the demo model and of a scaled-down Scout on a processor",
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
    source="guessed: the cache as 0.32.0 keeps it; its other needs as logs of 0.12.0 and 0.14.0rc1 show them",
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
    source="fitted: the longest contexts its documentation gives for eight H100 and H200 without hybrid cache",
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
    source="measured: llama-fit-params; cards filled to 92 % have been seen to spill",
)

#: The engines that a plan is compared with, ours first.
ENGINES: Final = (TORCH, VLLM, SGLANG, LLAMA_CPP)

#: All that are known: ONNX Runtime alone runs exports, which nothing else does.
PROFILES: Final = (*ENGINES, ONNX_RUNTIME)


def find_engine(name: str) -> EngineProfile:
    """The profile of this name. Raises StopIteration for an unknown one."""
    return next(profile for profile in PROFILES if profile.name == name)
