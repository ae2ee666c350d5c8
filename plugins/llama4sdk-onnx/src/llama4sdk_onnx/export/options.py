"""The options of an export with their defaults resolved, and its fingerprint."""

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
from llama4sdk_onnx.export.graphs.text import DEFAULT_OPSET, check_opset
from llama4sdk_onnx.manifest import Kind

#: The distribution whose version stands in manifests.
DISTRIBUTION: Final = "llama4sdk-onnx"
HEAD_DIM_MULTIPLE: Final = 16
EXPORTED_SCHEMES: Final = frozenset({Quantization.FP32, Quantization.FP16, Quantization.INT8, Quantization.INT4})


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedOptions:
    """Everything an export depends on beside the checkpoint."""

    quantization: QuantizationConfig
    kind: Kind
    opset: int

    def fingerprint(self, checkpoint: Checkpoint) -> str:
        """A digest of these options and of the names, sizes and times of the checkpoint's files."""
        files = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in source_files(checkpoint.path)]
        identity = [files, self.quantization.model_dump(mode="json"), self.kind, self.opset]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def journal_fingerprint(self, checkpoint: Checkpoint) -> str:
        """The fingerprint with the versions of this software, on which the written bytes depend as well."""
        versions = [f"{name} {version(name)}" for name in ("llama4sdk", DISTRIBUTION)]
        return hashlib.sha256(" ".join([self.fingerprint(checkpoint), *versions]).encode()).hexdigest()


def resolve_options(options: ExportOptions, checkpoint: Checkpoint) -> ResolvedOptions:
    """The options with defaults for those left open. Raises ConfigurationError for what cannot be exported."""
    kind: Kind = "portable" if options.portable else "fast"
    opset = DEFAULT_OPSET if options.opset is None else options.opset
    check_opset(opset)
    if kind == "fast" and checkpoint.config.head_dim % HEAD_DIM_MULTIPLE:
        raise ConfigurationError(
            f"ONNX Runtime's attention takes heads of a multiple of {HEAD_DIM_MULTIPLE}, not of "
            f"{checkpoint.config.head_dim}.",
            hint="Export with --portable.",
        )
    name = options.quantization
    quantization = _default_quantization(checkpoint) if name is None else parse_quantization(name)
    return ResolvedOptions(quantization=quantization, kind=kind, opset=opset)


def parse_quantization(name: str) -> QuantizationConfig:
    """The config of a name, like ``QuantizationConfig.of``, but with activations in fp32 unless the name has others.

    A name such as ``int4`` leaves the head at int8: each token reads all of it, and in full precision it would be more
    than everything else. Raises ConfigurationError for an unknown name, and for a scheme that ONNX Runtime has no fast
    operators for.
    """
    names_dtype = "/" in name or "dtype=" in name.replace(" ", "") or not ("=" in name or name.startswith("int"))
    config = QuantizationConfig.of(name if names_dtype else f"{name},dtype=fp32" if "=" in name else f"{name}/fp32")
    if "=" not in name and config.attention is Quantization.INT4:
        config = QuantizationConfig.model_validate(config.model_dump() | {"head": Quantization.INT8})
    unsupported = {config.scheme(module) for module in get_args(ModuleClass)} - EXPORTED_SCHEMES
    if unsupported:
        raise ConfigurationError(
            f"Exports cannot hold weights in {min(unsupported)}, as '{name}' asks.",
            hint=f"Choose {', '.join(sorted(EXPORTED_SCHEMES))}; 'int4/fp16' has activations in fp16, for GPUs.",
        )
    return config


def source_files(path: Path) -> list[Path]:
    """The files of a checkpoint: those of its directory, or the one at ``path`` and those it was split into."""
    return sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else split_files(path)


def _default_quantization(checkpoint: Checkpoint) -> QuantizationConfig:
    """The checkpoint's own quantization where it can be kept; int8 for all others."""
    stored = stored_quantization(checkpoint)
    if isinstance(stored, QuantizationConfig):
        schemes = {module: stored.scheme(module) for module in LINEAR}
        quantized = {module: scheme for module, scheme in schemes.items() if not scheme.full_precision}
        stored = QuantizationConfig.model_validate({**quantized, "dtype": Quantization.FP32})
        return stored if set(quantized.values()) <= EXPORTED_SCHEMES else parse_quantization("int8")
    return parse_quantization(stored if stored in EXPORTED_SCHEMES else "int8")
