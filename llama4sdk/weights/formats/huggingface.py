"""Hugging Face directories: ``config.json``, safetensors (one file or shards with an index), tokenizer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue, TypeAdapter, ValidationError

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.quantization import MatrixFormat
from llama4sdk.weights.checkpoint import FULL_PRECISION, Checkpoint, GenerationDefaults, TensorInfo
from llama4sdk.weights.formats.compressed_tensors import CompressedTensors, check_scheme
from llama4sdk.weights.formats.quantized import QuantizedTensor
from llama4sdk.weights.formats.safetensors import SafetensorsFile
from llama4sdk.weights.formats.tokenizer_files import TokenizerFiles, read_json
from llama4sdk.weights.store import is_plain_name

SINGLE_FILE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"

#: Prefixes of tensor names in multimodal checkpoints.
_PREFIX: Final = re.compile(r"^(language_model\.|model\.(?=vision_|multi_modal_))")

_SHARDS: Final = TypeAdapter(dict[str, str])


class HuggingFaceCheckpoint(TokenizerFiles, Checkpoint):
    """A directory as ``save_pretrained`` writes it, with memory-mapped files."""

    format: ClassVar[str] = "Hugging Face"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config = read_json(path / "config.json", needed=True)
        is_quantized = check_scheme(self._config)
        self.config = TextConfig.from_hf(self._config)
        self._files, stored = self._open_shards()
        self._compressed = CompressedTensors(stored if is_quantized else {}, self._values)
        self.tensors = self._compressed.tensors if is_quantized else stored
        if any(name.startswith("vision_model.") for name in self.tensors):
            self.vision = VisionConfig.from_hf(self._config)
        self.name = path.resolve().name
        self._generation = read_json(path / "generation_config.json")
        self.generation_defaults = _generation_defaults(self._generation)

    def read(self, name: str, index: int | None = None) -> npt.NDArray[np.generic]:
        """Read a tensor; quantized values are dequantized."""
        if name in self._compressed.quantized:
            values: npt.NDArray[np.generic] = self._compressed.dequantize(name)
        elif self.tensors[name].dtype in FULL_PRECISION:
            values = self._values(name)
        else:
            raise CheckpointError(
                f"Tensor '{name}' of {self.path} is stored as {self.tensors[name].dtype}, which cannot be read."
            )
        return values if index is None else values[index]

    def stored_form(self, name: str) -> MatrixFormat | None:
        """The format of weights with one scale per tensor, output channel or group, and no zero points."""
        return self._compressed.stored_form(name) if name in self._compressed.quantized else None

    def read_quantized(self, name: str) -> QuantizedTensor:
        """Read stored codes and scales."""
        return self._compressed.read_quantized(name)

    def release(self) -> None:
        """Release the memory of all files."""
        for file in {file for file, _ in self._files.values()}:
            file.release()

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """``eos_token_id`` of the generation config, or else of the config."""
        text = self._config.get("text_config")
        candidates = (self._generation, self._config, text if isinstance(text, dict) else {})
        eos = next((c["eos_token_id"] for c in candidates if c.get("eos_token_id") is not None), [])
        ids = eos if isinstance(eos, list) else [eos]
        return frozenset(token for token in ids if isinstance(token, int))

    def _values(self, name: str) -> npt.NDArray[np.generic]:
        """The stored values of a tensor."""
        file, key = self._files[name]
        return file.read(key)

    def _open_shards(self) -> tuple[dict[str, tuple[SafetensorsFile, str]], dict[str, TensorInfo]]:
        files: dict[str, tuple[SafetensorsFile, str]] = {}
        tensors: dict[str, TensorInfo] = {}
        for shard in _shards(self.path):
            file = SafetensorsFile(shard)
            for key, info in file.tensors.items():
                name = _PREFIX.sub("", key, count=1)
                files[name] = (file, key)
                tensors[name] = info
        return files, tensors


def _shards(path: Path) -> list[Path]:
    if not (path / INDEX).is_file():
        if not (path / SINGLE_FILE).is_file():
            raise CheckpointError(
                f"{path} has neither {SINGLE_FILE} nor {INDEX}.",
                hint="Fetch the checkpoint's weights; 'llama4sdk plan' shows what they would need.",
            )
        return [path / SINGLE_FILE]
    try:
        names = set(_SHARDS.validate_python(read_json(path / INDEX).get("weight_map")).values())
    except ValidationError as error:
        raise CheckpointError(f"{path / INDEX} has no valid 'weight_map'.") from error
    for name in sorted(names):
        if not is_plain_name(name):
            raise CheckpointError(
                f"The index of {path} names the file {name!r}, which is not in that directory.",
                hint="Such an index is not what a publisher writes: do not trust this checkpoint.",
            )
        if not (path / name).is_file():
            raise CheckpointError(f"{path} lacks {name}, which its index names.", hint="Fetch the missing file.")
    return [path / name for name in sorted(names)]


def _generation_defaults(generation: Mapping[str, JsonValue]) -> GenerationDefaults:
    values = {key: generation.get(key) for key in ("temperature", "top_p")}
    return GenerationDefaults(**{key: float(value) for key, value in values.items() if isinstance(value, (int, float))})
