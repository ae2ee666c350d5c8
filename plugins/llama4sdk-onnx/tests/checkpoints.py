"""Tiny checkpoints of every format with tokenizers, and how they are exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from llama4sdk_onnx.export.exporter import OnnxExporter

from llama4sdk.exporter import ExportOptions, ExportReport, Notice
from llama4sdk.progress import Progress
from tests.weights.checkpoints import (
    TOKENIZER,
    Sizes,
    hf_config,
    hf_tensors,
    seeing_config,
    seeing_tensors,
    write_gguf,
    write_hf,
)
from tests.weights.meta import write_meta

FORMATS = ("hf", "seeing", "gguf", "meta")
#: ONNX Runtime's attention has no narrower heads.
SIZES = Sizes(heads=2, kv_heads=2, dim=16)


def tiny(kind: str, folder: Path) -> Path:
    """A checkpoint of this kind in or below an existing directory; ``other`` has other weights than ``seeing``."""
    if kind == "gguf":
        return write_gguf(folder / "tiny.gguf", SIZES)
    if kind == "meta":
        path = write_meta(folder / "meta", hf_tensors(SIZES), SIZES)
    elif kind == "seeing":
        path = write_hf(folder / "seeing", seeing_tensors(SIZES), seeing_config(SIZES))
    else:
        path = write_hf(folder / "hf", hf_tensors(SIZES, seed=int(kind == "other")), hf_config(SIZES))
    text = json.dumps(TOKENIZER).replace("<|im_end|>", "<|patch|>" if kind == "seeing" else "<|im_end|>")
    (path / "tokenizer.json").write_text(text, encoding="utf-8")
    (path / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}<|eot|>{% endfor %}")
    (path / "generation_config.json").write_text('{"eos_token_id": 9, "temperature": 0.3}', encoding="utf-8")
    return path


def exported(
    source: Path,
    target: Path,
    quantization: str | None = "fp32",
    *,
    verify: bool = False,
    portable: bool = False,
    opset: int | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> ExportReport:
    """Export as ``llama4sdk export`` does."""
    options = ExportOptions(model="tiny", quantization=quantization, opset=opset, portable=portable, verify=verify)
    return OnnxExporter().export(source, target, options, progress=progress, notice=notice)


def content(folder: Path) -> Mapping[str, bytes]:
    """Every file's bytes by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
