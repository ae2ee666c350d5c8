"""Exports to test with, of the demo model and of small random networks."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import torch
from llama4sdk_onnx.export.exporter import OnnxExporter

from llama4sdk import Client
from llama4sdk.exporter import ExportOptions

__all__ = ["assert_near", "export", "native", "reference", "save_chat", "save_plain", "save_seeing"]

TORCH_TESTS = Path(__file__).parents[2] / "llama4sdk-torch" / "tests"


#: What ONNX Runtime's rotation takes is a multiple of this.
HEADS = {"head_dim": 16}


def reference() -> ModuleType:
    """The networks and tokenizers that the native engine is held to."""
    return _load("reference")


def assert_near(actual: npt.ArrayLike, expected: npt.ArrayLike, *, least_scale: float = 0.0) -> None:
    """The numbers differ by rounding alone, as the native engine's tests count it."""
    arrays = (np.asarray(values, np.float32) for values in (actual, expected))
    _load("numeric").assert_near(*map(torch.tensor, arrays), least_scale=least_scale)


def _load(file: str) -> ModuleType:
    name = f"llama4sdk_torch_{file}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TORCH_TESTS / f"{file}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def export(checkpoint: Path, folder: Path, quantization: str = "fp32", *, portable: bool = False) -> Path:
    """Export without trying the outcome: the tests do that."""
    options = ExportOptions(model=checkpoint.name, quantization=quantization, portable=portable, verify=False)
    return Path(OnnxExporter().export(checkpoint, folder, options).path)


def native(checkpoint: Path | str, **options: object) -> Client:
    """The native engine in float32 on the processor."""
    return Client(str(checkpoint), backend="torch", device="cpu", quantization="fp32", **options)


def save_plain(folder: Path, **overrides: object) -> Path:
    """A random text network of 95 characters, without a chat template."""
    ours = reference()
    ours.tiny_model(**HEADS, **overrides).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(ours.characters_tokenizer(), encoding="utf-8")
    return folder


def save_chat(folder: Path, **overrides: object) -> Path:
    """A random text network with Llama 4's control tokens, so that it is told of tools."""
    ours = reference()
    settings = {"vocab_size": 104, "eos_token_id": None, "max_position_embeddings": 4096}
    ours.tiny_model(**HEADS, **settings, **overrides).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(ours.llama4_characters_tokenizer(), encoding="utf-8")
    return folder


def save_seeing(folder: Path, **overrides: object) -> Path:
    """A random network that sees, in tiles of 12 pixels and 4 tokens, with Llama 4's own chat template."""
    from transformers.models.llama4.processing_llama4 import chat_template

    ours = reference()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = ours.seeing_tokenizer()
    (folder / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    settings = {"chat_template": chat_template, "bos_token": "<|begin_of_text|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    control = {token["content"]: token["id"] for token in json.loads(tokenizer)["added_tokens"]}
    model = ours.tiny_seeing_model(ours.tiny_vision(), image_token=control["<|patch|>"], **HEADS, **overrides)
    model.save_pretrained(folder)
    return folder
