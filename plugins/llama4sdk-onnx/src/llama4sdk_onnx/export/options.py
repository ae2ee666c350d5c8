"""What is exported and how: the options of a call, settled and told apart from all others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final, get_args

from llama4sdk.errors import ConfigurationError
from llama4sdk.exporter import ExportOptions
from llama4sdk.quantization import LINEAR, ModuleClass, Quantization, QuantizationConfig
from llama4sdk.weights.checkpoint import Checkpoint
from llama4sdk.weights.formats.gguf_header import split_files
from llama4sdk.weights.quantization_plan import stored_quantization
from llama4sdk_onnx.export.graphs.graph import DEFAULT_OPSET, check_opset
from llama4sdk_onnx.manifest import Kind

__all__ = ["EXPORTED", "MADE_BY", "Choices", "chosen", "quantization_named", "source_files"]

#: The distribution whose version stands in manifests.
MADE_BY: Final = "llama4sdk-onnx"
HEAD_STEP: Final = 16
EXPORTED: Final = frozenset({Quantization.FP32, Quantization.FP16, Quantization.INT8, Quantization.INT4})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Everything that an export depends on beside the checkpoint."""

    quantization: QuantizationConfig
    kind: Kind
    opset: int

    def fingerprint(self, checkpoint: Checkpoint) -> str:
        """Of these choices and of the checkpoint's files, by name, size and time."""
        files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in source_files(checkpoint.path)]
        about = [files, self.quantization.model_dump(mode="json"), self.kind, self.opset]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def journal_mark(self, checkpoint: Checkpoint) -> str:
        """The same with the versions of this software, on which the bytes that are written depend, too."""
        versions = [f"{name} {version(name)}" for name in ("llama4sdk", MADE_BY)]
        return hashlib.sha256(" ".join([self.fingerprint(checkpoint), *versions]).encode()).hexdigest()


def chosen(options: ExportOptions, checkpoint: Checkpoint) -> Choices:
    """What to do. Raises ConfigurationError for what cannot be exported."""
    kind: Kind = "portable" if options.portable else "fast"
    opset = DEFAULT_OPSET if options.opset is None else options.opset
    check_opset(opset)
    if kind == "fast" and checkpoint.config.head_dim % HEAD_STEP:
        raise ConfigurationError(
            f"ONNX Runtime's attention takes heads of a multiple of {HEAD_STEP}, not of {checkpoint.config.head_dim}.",
            hint="Export with --portable.",
        )
    if options.quantization is None:
        return Choices(quantization=_fitting(checkpoint), kind=kind, opset=opset)
    return Choices(quantization=quantization_named(options.quantization), kind=kind, opset=opset)


def quantization_named(name: str) -> QuantizationConfig:
    """As ``QuantizationConfig.of``, but activations are fp32 unless the name says otherwise.

    Where int4 is all that was said, the head is int8: each token reads all of it, and in full precision it would be
    more than all the rest.

    Raises ConfigurationError for what is none, and for what ONNX Runtime has no fast operators for.
    """
    told = "/" in name or "dtype=" in name.replace(" ", "") or not ("=" in name or name.startswith("int"))
    config = QuantizationConfig.of(name if told else f"{name},dtype=fp32" if "=" in name else f"{name}/fp32")
    if "=" not in name and config.attention is Quantization.INT4:
        config = QuantizationConfig.model_validate(config.model_dump() | {"head": Quantization.INT8})
    unknown = {config.scheme(module) for module in get_args(ModuleClass)} - EXPORTED
    if unknown:
        raise ConfigurationError(
            f"Exports cannot hold weights in {min(unknown)}, as '{name}' asks.",
            hint=f"Choose {', '.join(sorted(EXPORTED))}; 'int4/fp16' has activations in fp16, for GPUs.",
        )
    return config


def source_files(path: Path) -> list[Path]:
    """The files of a checkpoint: those in its directory, or the one given and those it was split into."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else split_files(path)


def _fitting(checkpoint: Checkpoint) -> QuantizationConfig:
    """What the checkpoint is quantized to, where that can be kept; int8 for all others."""
    stored = stored_quantization(checkpoint)
    if isinstance(stored, QuantizationConfig):
        schemes = {module: stored.scheme(module) for module in LINEAR}
        plain = {module: scheme for module, scheme in schemes.items() if not scheme.full_precision}
        stored = QuantizationConfig.model_validate({**plain, "dtype": Quantization.FP32})
        return stored if set(plain.values()) <= EXPORTED else quantization_named("int8")
    return quantization_named(stored if stored in EXPORTED else "int8")
