"""ONNX Runtime's sessions: made for a device of the plan's, and with every failure in the SDK's words."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final, NamedTuple

import onnxruntime
from onnxruntime import InferenceSession, SessionOptions

from llama4sdk._text import gb
from llama4sdk.errors import BackendError, CheckpointError, DeviceMemoryError, Llama4Error, ModelLoadError
from llama4sdk.probe import cpu
from llama4sdk_onnx.caches import CPU, Place
from llama4sdk_onnx.huge_pages import huge_pages

__all__ = [
    "PROVIDERS",
    "SILENT",
    "Provider",
    "location",
    "open_session",
    "provider",
    "require",
    "running",
]

SILENT: Final = 4
"""A log level: ONNX Runtime writes nothing to stderr, since what it has to say comes in errors."""


class Provider(NamedTuple):
    """What runs a graph on one kind of device."""

    name: str
    """As ONNX Runtime calls it."""
    package: str
    """The distribution of ONNX Runtime that has it."""
    buffers: str = "cpu"
    """The kind of memory that caches are in: its own where buffers have addresses, else the machine's."""


PROVIDERS: Final[Mapping[str, Provider]] = {
    "cpu": Provider("CPUExecutionProvider", "onnxruntime"),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu", "cuda"),
    "tensorrt": Provider("TensorrtExecutionProvider", "onnxruntime-gpu", "cuda"),
    "rocm": Provider("MIGraphXExecutionProvider", "onnxruntime-migraphx", "gpu"),
    "dml": Provider("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime"),
}
"""By the part of a plan's device before the colon."""

MEMORY: Final = re.compile(
    r"failed to allocate memory|bad_alloc|bad allocation|out of memory|alloc_failed|cudaErrorMemoryAllocation"
    r"|available memory of \d+ is smaller|8007000e",
    re.IGNORECASE,
)
"""What ONNX Runtime and the providers say when memory runs out."""

WANTED: Final = re.compile(r"requested (?:buffer of size|bytes of) (\d+)")
NEWER: Final[Mapping[str, str]] = {
    r"Opset (\d+) is under development.* domain (\S+) is till opset (\d+)": r"operator set \1 of \2; it knows \3",
    r"(\S+?):(\w+)\(-?\d+\) is not a registered function/op": r"the operator \2 of \1",
    r"Could not find an implementation for (\w+)\(\d+\)": r"\1 for these types",
    r"Unrecognized attribute: (\w+) for operator (\w+)": r"the attribute \1 of \2",
    r"Unsupported model IR version: (\d+), max supported IR version: (\d+)": r"format \1; it knows \2",
}
"""What it says of graphs that it is too old for, and what that means."""

DAMAGED: Final = re.compile(r"external|protobuf|No graph was found", re.IGNORECASE)

NOISE: Final = r"^\[ONNXRuntimeError\] : \d+ : \w+ : |^Error in execution: |/\S+\.(?:cc|h):\d+ .*\) (?=\S)"


def provider(device: str) -> Provider:
    """What runs graphs on a device of the plan's, ``cuda:0`` for one. Raises ModelLoadError for an unknown kind."""
    kind = device.partition(":")[0]
    if kind not in PROVIDERS:
        raise ModelLoadError(
            f"ONNX Runtime has no name for the device '{device}'.", hint=f"It can be one of {', '.join(PROVIDERS)}."
        )
    return PROVIDERS[kind]


def location(device: str) -> Place:
    """Where buffers are that a run on the device reads and writes."""
    buffers = provider(device).buffers
    return CPU if buffers == CPU.kind else Place(buffers, int(device.partition(":")[2] or 0))


def require(oldest: str) -> None:
    """Raise ModelLoadError when this ONNX Runtime is older than a graph needs."""
    here = onnxruntime.__version__
    if _numbers(here) < _numbers(oldest):
        raise ModelLoadError(
            f"The graph needs ONNX Runtime {oldest} or newer, and {here} is installed.",
            hint=f"pip install 'onnxruntime>={oldest}', or the same of the distribution you use.",
        )


def open_session(
    path: Path, *, device: str = "cpu", threads: int | None = None, memory_limit: int | None = None
) -> InferenceSession:
    """The graph in ``path`` on one device of the plan's. It maps its weights, and packs them anew where that is faster.

    ``threads``: at most so many of the cores that this process may use, all by default; ``memory_limit``: bytes of the
    device that it may take. Raises ModelLoadError, when the device's provider is missing or does not start or the graph
    asks for what this ONNX Runtime does not know, CheckpointError for damaged files, and DeviceMemoryError.
    """
    wanted = provider(device)
    if wanted.name not in onnxruntime.get_available_providers():
        raise ModelLoadError(
            f"This ONNX Runtime, {onnxruntime.__version__}, has no {wanted.name}, which '{device}' needs.",
            hint=f"pip uninstall onnxruntime, then pip install {wanted.package}; only one can be installed.",
        )
    cores = cpu.read().cores
    options = SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = min(threads or cores, cores)
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = not device.startswith("dml")  # which cannot have it
    with _opening(path, device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of providers that do not start, which is found out below
        names = _providers(device, memory_limit)
        with huge_pages() if device == "cpu" else nullcontext():
            session = InferenceSession(str(path), options, providers=names, enable_fallback=0)
    if session.get_providers()[0] != wanted.name:
        raise ModelLoadError(
            f"{wanted.name} does not start on '{device}': ONNX Runtime would use the CPU in its place.",
            hint=f"Check the driver and the libraries that {wanted.package} {onnxruntime.__version__} was made for.",
        )
    return session


@contextmanager
def running(device: str) -> Iterator[None]:
    """What goes wrong in a run becomes a DeviceMemoryError or a BackendError."""
    try:
        yield
    except Llama4Error:
        raise
    except Exception as error:  # ONNX Runtime's have no base of their own
        raise _memory(error, device) or BackendError(f"ONNX Runtime failed on '{device}': {_said(error)}") from error


@contextmanager
def _opening(path: Path, device: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's have no base of their own
        said = _said(error)
        if memory := _memory(error, device):
            raise memory from error
        if DAMAGED.search(said) or not path.exists():
            hint = "Export the model again."
            raise CheckpointError(f"{path} or its weights are damaged: {said}", hint=hint) from error
        if unknown := _unknown(said):
            raise ModelLoadError(
                f"{path} needs what ONNX Runtime {onnxruntime.__version__} does not know: {unknown}.",
                hint="Install a newer ONNX Runtime, or export the model again for this one.",
            ) from error
        raise ModelLoadError(f"ONNX Runtime cannot load {path}: {said}") from error


def _providers(device: str, memory_limit: int | None) -> list[tuple[str, dict[str, str]]]:
    """The device's own first, then those that do what it cannot."""
    kind, _, number = device.partition(":")
    on_device = {} if kind in ("cpu", "coreml") else {"device_id": number or "0"}
    arena = {"arena_extend_strategy": "kSameAsRequested"}  # doubling would go beyond the plan
    limit = {} if memory_limit is None else {"gpu_mem_limit": str(memory_limit)}
    options = {
        kind: on_device,
        **({"cuda": on_device | arena | limit} if kind in ("cuda", "tensorrt") else {}),
        "cpu": {},
    }
    return [(PROVIDERS[kind].name, chosen) for kind, chosen in options.items()]


def _unknown(said: str) -> str | None:
    found = ((re.search(pattern, said), meaning) for pattern, meaning in NEWER.items())
    return next((match.expand(meaning) for match, meaning in found if match), None)


def _memory(error: Exception, device: str) -> DeviceMemoryError | None:
    said = str(error)
    if not isinstance(error, MemoryError) and not MEMORY.search(said):
        return None
    found = WANTED.search(said)
    need = int(found[1]) if found else None
    more = "" if need is None else f": {gb(need)} more could not be had"
    return DeviceMemoryError(
        f"Memory ran out on '{device}'{more}.",
        need=need,
        hint="Ask for a shorter context_length or a smaller batch, or use an export with smaller weights.",
    )


def _said(error: Exception) -> str:
    """Without the codes in front, and the names of functions in C++."""
    said = re.sub(NOISE, "", str(error))
    return said.strip().splitlines()[0][:500] if said.strip() else type(error).__name__


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
