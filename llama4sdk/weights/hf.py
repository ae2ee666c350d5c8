"""Hugging Face directories: ``config.json``, safetensors (one file or shards with an index), ``tokenizer.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final, Protocol, cast

import ml_dtypes  # noqa: F401  (teaches numpy, and safetensors through it, what bfloat16 is)
import numpy as np
import numpy.typing as npt
from pydantic import JsonValue, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.template import ChatTemplate
from llama4sdk.llama4.tokenizer import Tokenizer
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.weights.checkpoint import Checkpoint, GenerationDefaults, TensorInfo, commonest_dtype

__all__ = ["HuggingFaceCheckpoint"]

SINGLE: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
READABLE: Final = {"F32": 4, "F16": 2, "BF16": 2}
"""Storage types that can be read, and the bytes of one value."""

_WRAPPER: Final = re.compile(r"^(language_model\.|model\.(?=vision_|multi_modal_))")
"""What multimodal checkpoints put before the names of their parts."""

_OBJECT: Final = TypeAdapter(dict[str, JsonValue])
_SHARDS: Final = TypeAdapter(dict[str, str])


class _Slice(Protocol):
    def get_shape(self) -> list[int]: ...
    def get_dtype(self) -> str: ...
    def __getitem__(self, index: int) -> npt.NDArray[np.generic]: ...


class _File(Protocol):
    """What ``safe_open`` gives; the package does not say."""

    def keys(self) -> list[str]: ...
    def get_tensor(self, name: str) -> npt.NDArray[np.generic]: ...
    def get_slice(self, name: str) -> _Slice: ...


class HuggingFaceCheckpoint(Checkpoint):
    """A directory as ``save_pretrained`` writes it; the files stay mapped while this lives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._config = _read_json(path / "config.json", needed=True)
        if "quantization_config" in self._config:
            raise CheckpointError(
                f"{path} is quantized in a Hugging Face format, which cannot be read.",
                hint="Use the unquantized checkpoint, or a GGUF file.",
            )
        self.config = TextConfig.from_hf(self._config)
        self._files, self.tensors = self._open_shards()
        if any(name.startswith("vision_model.") for name in self.tensors):
            self.vision = VisionConfig.from_hf(self._config)
        self.name = path.resolve().name
        self.dtype = commonest_dtype(self.tensors)
        self._generation = _read_json(path / "generation_config.json")
        self.generation_defaults = _defaults(self._generation)

    def read(self, name: str, index: int | None = None) -> npt.NDArray[np.generic]:
        """As the base class says; the values as they are stored."""
        dtype = self.tensors[name].dtype
        if dtype not in READABLE:
            raise CheckpointError(f"Tensor '{name}' of {self.path} is stored as {dtype}, which cannot be read.")
        file, key = self._files[name]
        return file.get_tensor(key) if index is None else file.get_slice(key)[index]

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """``eos_token_id`` of the generation config, or else of the config."""
        text = self._config.get("text_config")
        candidates = (self._generation, self._config, text if isinstance(text, dict) else {})
        found = next((c["eos_token_id"] for c in candidates if c.get("eos_token_id") is not None), [])
        ids = found if isinstance(found, list) else [found]
        return frozenset(token for token in ids if isinstance(token, int))

    def tokenizer(self) -> Tokenizer:
        """Read from ``tokenizer.json``."""
        file = self.path / "tokenizer.json"
        if not file.is_file():
            raise CheckpointError(f"{self.path} has no tokenizer.json.", hint="Fetch the checkpoint's tokenizer files.")
        return Tokenizer.from_json(_read_text(file))

    def chat_template(self) -> ChatTemplate | None:
        """``chat_template.jinja``, or the one inside ``tokenizer_config.json``."""
        settings = _read_json(self.path / "tokenizer_config.json")
        file = self.path / "chat_template.jinja"
        source = _read_text(file) if file.is_file() else _default_template(settings.get("chat_template"))
        return None if source is None else ChatTemplate(source, _special_tokens(settings))

    def _open_shards(self) -> tuple[dict[str, tuple[_File, str]], dict[str, TensorInfo]]:
        files: dict[str, tuple[_File, str]] = {}
        tensors: dict[str, TensorInfo] = {}
        for shard in _shards(self.path):
            file = _open(shard)
            for key in file.keys():  # noqa: SIM118  (it is no mapping)
                name = _WRAPPER.sub("", key, count=1)
                files[name] = (file, key)
                tensors[name] = _info(file, key)
        return files, tensors


def _shards(path: Path) -> list[Path]:
    if not (path / INDEX).is_file():
        if not (path / SINGLE).is_file():
            raise CheckpointError(f"{path} has neither {SINGLE} nor {INDEX}.", hint="Fetch the checkpoint's weights.")
        return [path / SINGLE]
    try:
        names = set(_SHARDS.validate_python(_read_json(path / INDEX).get("weight_map")).values())
    except ValidationError as error:
        raise CheckpointError(f"{path / INDEX} has no valid 'weight_map'.") from error
    for name in sorted(names):
        if not (path / name).is_file():
            raise CheckpointError(f"{path} lacks {name}, which its index names.", hint="Fetch the missing file.")
    return [path / name for name in sorted(names)]


def _open(file: Path) -> _File:
    try:
        return cast("_File", safe_open(file, framework="numpy"))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged or truncated: {error}.", hint="Fetch the file again.") from error


def _info(file: _File, key: str) -> TensorInfo:
    entry = file.get_slice(key)
    shape, dtype = tuple(entry.get_shape()), entry.get_dtype()
    return TensorInfo(shape, dtype, int(np.prod(shape, dtype=object)) * READABLE.get(dtype, 1))


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from error


def _read_json(file: Path, *, needed: bool = False) -> dict[str, JsonValue]:
    if not needed and not file.is_file():
        return {}
    if not file.is_file():
        raise CheckpointError(f"{file.parent} has no {file.name}.", hint="Give a directory with a checkpoint in it.")
    try:
        return _OBJECT.validate_json(_read_text(file))
    except ValidationError as error:
        raise CheckpointError(f"{file} is no JSON object.", hint="Fetch the file again.") from error


def _defaults(generation: Mapping[str, JsonValue]) -> GenerationDefaults:
    published = GenerationDefaults()
    temperature, top_p = generation.get("temperature"), generation.get("top_p")
    return GenerationDefaults(
        temperature=float(temperature) if isinstance(temperature, (int, float)) else published.temperature,
        top_p=float(top_p) if isinstance(top_p, (int, float)) else published.top_p,
    )


def _default_template(value: JsonValue) -> str | None:
    """One template, or a list of named ones."""
    if isinstance(value, list):
        named = {str(entry["name"]): entry["template"] for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _special_tokens(settings: Mapping[str, JsonValue]) -> dict[str, str]:
    """``bos_token`` and its like, each written as text or as an object with ``content``."""
    texts = {
        key: value["content"] if isinstance(value, dict) else value
        for key, value in settings.items()
        if key.endswith("_token")
    }
    return {key: text for key, text in texts.items() if isinstance(text, str)}
