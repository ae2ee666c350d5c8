"""ONNX Runtime's sessions on a plan's device, with its failures as the SDK's errors."""

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
from llama4sdk_onnx.caches import CPU, BufferDevice
from llama4sdk_onnx.huge_pages import huge_pages
from llama4sdk_onnx.manifest import is_older

#: The log level at which ONNX Runtime writes nothing to stderr; errors carry what it would log.
SILENT: Final = 4


class Provider(NamedTuple):
    """ONNX Runtime's execution provider for one kind of device."""

    #: ONNX Runtime's name of it.
    name: str
    #: The distribution of ONNX Runtime that has it.
    package: str
    #: The kind of memory that caches are in: its own where buffers have addresses, else the machine's.
    buffers: str = "cpu"


#: Providers by the part of a plan's device before the colon.
PROVIDERS: Final[Mapping[str, Provider]] = {
    "cpu": Provider("CPUExecutionProvider", "onnxruntime"),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu", "cuda"),
    "tensorrt": Provider("TensorrtExecutionProvider", "onnxruntime-gpu", "cuda"),
    "rocm": Provider("MIGraphXExecutionProvider", "onnxruntime-migraphx", "gpu"),
    "dml": Provider("DmlExecutionProvider", "onnxruntime-directml"),
    "coreml": Provider("CoreMLExecutionProvider", "onnxruntime"),
}

#: Messages of ONNX Runtime and its providers when memory runs out.
OUT_OF_MEMORY: Final = re.compile(
    r"failed to allocate memory|bad_alloc|bad allocation|out of memory|alloc_failed|cudaErrorMemoryAllocation"
    r"|available memory of \d+ is smaller|8007000e",
    re.IGNORECASE,
)

REQUESTED_BYTES: Final = re.compile(r"requested (?:buffer of size|bytes of) (\d+)")

#: Messages about graphs that it is too old for, and the feature that it lacks.
UNKNOWN_FEATURES: Final[Mapping[str, str]] = {
    r"Opset (\d+) is under development.* domain (\S+) is till opset (\d+)": r"operator set \1 of \2; it knows \3",
    r"(\S+?):(\w+)\(-?\d+\) is not a registered function/op": r"the operator \2 of \1",
    r"Could not find an implementation for (\w+)\(\d+\)": r"\1 for these types",
    r"Unrecognized attribute: (\w+) for operator (\w+)": r"the attribute \1 of \2",
    r"Unsupported model IR version: (\d+), max supported IR version: (\d+)": r"format \1; it knows \2",
}

#: Messages about damaged files.
DAMAGED: Final = re.compile(r"external|protobuf|No graph was found", re.IGNORECASE)

#: Codes before a message, and names of C++ functions in it.
NOISE: Final = r"^\[ONNXRuntimeError\] : \d+ : \w+ : |^Error in execution: |/\S+\.(?:cc|h):\d+ .*\) (?=\S)"


def provider(device: str) -> Provider:
    """The provider for a device as plans name it, such as ``cuda:0``. Raises ModelLoadError for an unknown kind."""
    kind = device.partition(":")[0]
    if kind not in PROVIDERS:
        raise ModelLoadError(
            f"ONNX Runtime has no name for the device '{device}'.", hint=f"It can be one of {', '.join(PROVIDERS)}."
        )
    return PROVIDERS[kind]


def buffer_device(device: str) -> BufferDevice:
    """The memory of the buffers that a run on the device reads and writes."""
    buffers = provider(device).buffers
    return CPU if buffers == CPU.kind else BufferDevice(buffers, int(device.partition(":")[2] or 0))


def require_version(oldest: str) -> None:
    """Raise ModelLoadError when this ONNX Runtime is older than a graph needs."""
    here = onnxruntime.__version__
    if is_older(here, oldest):
        raise ModelLoadError(
            f"The graph needs ONNX Runtime {oldest} or newer, and {here} is installed.",
            hint=f"pip install 'onnxruntime>={oldest}', or the same of the distribution you use.",
        )


def open_session(
    path: Path, *, device: str = "cpu", threads: int | None = None, memory_limit: int | None = None
) -> InferenceSession:
    """Open the graph in ``path`` on one device. Weights are mapped, and packed anew where that is faster.

    ``threads`` bounds the cores it uses, by default all that this process may use; ``memory_limit`` bounds the bytes it
    may take of the device. Raises ModelLoadError when the device's provider is missing or does not start, or the graph
    needs a feature that this ONNX Runtime lacks; CheckpointError for damaged files; and DeviceMemoryError.
    """
    needed = provider(device)
    if needed.name not in onnxruntime.get_available_providers():
        raise ModelLoadError(
            f"This ONNX Runtime, {onnxruntime.__version__}, has no {needed.name}, which '{device}' needs.",
            hint=f"pip uninstall onnxruntime, then pip install {needed.package}; only one can be installed.",
        )
    cores = cpu.read().cores
    options = SessionOptions()
    options.log_severity_level = SILENT
    options.intra_op_num_threads = min(threads or cores, cores)
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = not device.startswith("dml")  # which does not support it
    with _open_errors(path, device), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about providers that do not start, which is checked below
        providers = _providers(device, memory_limit)
        with huge_pages() if device == "cpu" else nullcontext():
            session = InferenceSession(str(path), options, providers=providers, enable_fallback=0)
    if session.get_providers()[0] != needed.name:
        raise ModelLoadError(
            f"{needed.name} does not start on '{device}': ONNX Runtime would use the CPU in its place.",
            hint=f"Check the driver and the libraries that {needed.package} {onnxruntime.__version__} was made for.",
        )
    return session


@contextmanager
def run_errors(device: str) -> Iterator[None]:
    """Turn failures of a run into DeviceMemoryError or BackendError."""
    try:
        yield
    except Llama4Error:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        raise _out_of_memory(error, device) or BackendError(
            f"ONNX Runtime failed on '{device}': {_message(error)}"
        ) from error


@contextmanager
def _open_errors(path: Path, device: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        message = _message(error)
        if out_of_memory := _out_of_memory(error, device):
            raise out_of_memory from error
        if DAMAGED.search(message) or not path.exists():
            hint = "Export the model again."
            raise CheckpointError(f"{path} or its weights are damaged: {message}", hint=hint) from error
        if unknown := _unknown_feature(message):
            raise ModelLoadError(
                f"{path} needs what ONNX Runtime {onnxruntime.__version__} does not know: {unknown}.",
                hint="Install a newer ONNX Runtime, or export the model again for this one.",
            ) from error
        raise ModelLoadError(f"ONNX Runtime cannot load {path}: {message}") from error


def _providers(device: str, memory_limit: int | None) -> list[tuple[str, dict[str, str]]]:
    """The device's own provider with its options, then those for operators that it lacks."""
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


def _unknown_feature(message: str) -> str | None:
    matches = ((re.search(pattern, message), meaning) for pattern, meaning in UNKNOWN_FEATURES.items())
    return next((match.expand(meaning) for match, meaning in matches if match), None)


def _out_of_memory(error: Exception, device: str) -> DeviceMemoryError | None:
    message = str(error)
    if not isinstance(error, MemoryError) and not OUT_OF_MEMORY.search(message):
        return None
    match = REQUESTED_BYTES.search(message)
    need = int(match[1]) if match else None
    more = "" if need is None else f": {gb(need)} more could not be had"
    return DeviceMemoryError(
        f"Memory ran out on '{device}'{more}.",
        need=need,
        hint="Ask for a shorter context_length or a smaller batch, or use an export with smaller weights.",
    )


def _message(error: Exception) -> str:
    """The first line of a message, without ``NOISE``; the error's type where there is none."""
    message = re.sub(NOISE, "", str(error)).strip()
    return message.splitlines()[0][:500] if message else type(error).__name__
