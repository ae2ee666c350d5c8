"""The manifest of an export directory: its content, and how to tell that it is whole.

manifest.json            the manifest
model.onnx               the text graph; its weights lie in weights/
vision.onnx              the vision graph, of a network that sees
genai.onnx               the text graph once more as ONNX Runtime GenAI wants it, of fast exports; genai_config.json
weights/layer-000.bin    external data, a file for each layer, and for what is outside of layers
tokenizer.json, tokenizer_config.json, chat_template.jinja, generation_config.json, config.json
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from llama4sdk._text import in_words
from llama4sdk._values import Value
from llama4sdk.errors import CheckpointError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.llama4.vision_config import VisionConfig
from llama4sdk.progress import Progress
from llama4sdk.quantization import QuantizationConfig
from llama4sdk.weights.exports import JOURNAL, MANIFEST
from llama4sdk.weights.store import is_plain_name
from llama4sdk_onnx import file_hashes

GRAPH: Final = "model.onnx"
VISION_GRAPH: Final = "vision.onnx"
#: The files that tokenizers and prompts are read from where they exist; exports never have the last.
TEXT_FILES: Final = (
    *("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "config.json"),
    "tokenizer.model",
)
REQUIRED_FILES: Final = (GRAPH, "tokenizer.json", "config.json")
REPAIR_HINT: Final = "Copy the directory again, or export the model again into another."

#: ``fast`` graphs use ONNX Runtime's own operators, ``portable`` ones nothing but ONNX'.
Kind = Literal["fast", "portable"]


class FileRecord(Value):
    """One file as it was written."""

    #: In bytes.
    size: Annotated[int, Field(ge=0)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(Value):
    """The description of a whole export. It is written last, so a directory without one is not whole."""

    format: Literal["llama4sdk-onnx"] = "llama4sdk-onnx"
    version: Literal[1] = 1
    #: Distribution and version.
    made_by: str
    #: The name in the checkpoint.
    model: str
    #: The format of the checkpoint, and the last part of its path.
    source: str
    kind: Kind
    opset: int
    #: The oldest version that runs the graph.
    onnxruntime: str
    #: How the weights are held; ``dtype`` is that of activations and caches.
    quantization: QuantizationConfig
    config: TextConfig
    vision: VisionConfig | None = None
    stop_ids: tuple[int, ...]
    temperature: float
    top_p: float
    #: The difference from the native engine by ``export.verify.logit_difference``; ``None``: not compared.
    verified: float | None = None
    #: Every other file of the directory, by its path from there, with ``/``.
    files: dict[str, FileRecord]
    #: A digest of the checkpoint's files and of the options.
    fingerprint: str = ""
    #: The SHA-256 of this file with nothing here; ``manifest_text`` fills it in.
    checksum: str = ""


def is_export(path: Path) -> bool:
    """Whether this is a directory with a manifest. Reads nothing."""
    return (path / MANIFEST).is_file()


def is_older(version: str, other: str) -> bool:
    """Whether the release of one version of ONNX Runtime is older than that of another."""
    one, two = (tuple(map(int, re.findall(r"\d+", text)[:3])) for text in (version, other))
    return one < two


def manifest_text(manifest: Manifest) -> str:
    """The file's text, the same for the same values."""
    data = manifest.model_dump(mode="json", exclude={"checksum"})
    data["config"] = {key: sorted(value) if isinstance(value, list) else value for key, value in data["config"].items()}
    text = json.dumps(data | {"checksum": ""}, indent=2) + "\n"
    return _with_checksum(text, "", hashlib.sha256(text.encode()).hexdigest())


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export directory. Raises CheckpointError when there is none, or it is damaged."""
    file = folder / MANIFEST
    try:
        text = file.read_bytes().decode()
        manifest = Manifest.model_validate_json(text)
    except FileNotFoundError as error:
        if (folder / JOURNAL).is_file():
            hint = "The command that began it finishes it."
            raise CheckpointError(f"{folder} is an export that was not finished.", hint=hint) from error
        hint = "Give a directory that 'llama4sdk export' wrote."
        raise CheckpointError(f"{folder} is no export: it has no {MANIFEST}.", hint=hint) from error
    except ValidationError as error:
        raise CheckpointError(f"{file} is damaged: {in_words(error)}.", hint=REPAIR_HINT) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}.", hint=REPAIR_HINT) from error
    if hashlib.sha256(_with_checksum(text, manifest.checksum, "").encode()).hexdigest() != manifest.checksum:
        raise CheckpointError(f"{file} is not what was exported: its content differs.", hint=REPAIR_HINT)
    return manifest


def verify_files(folder: Path, manifest: Manifest, progress: Progress | None = None) -> None:
    """Check every file's size and SHA-256; those that were checked before and are untouched since are not read again.

    ``progress`` counts bytes. Raises CheckpointError naming the first file that is missing, cut, changed or added.
    """
    files = manifest.files
    for name in sorted({*files, *REQUIRED_FILES, *TEXT_FILES, VISION_GRAPH}):
        if fault := _fault(folder, name, files.get(name)):
            raise _damaged(folder, name, fault)
    done, total = 0, sum(record.size for record in files.values())

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, total)

    with file_hashes.stored_digests() as digests:
        for name, record in files.items():
            if digests.sha256(folder / name, count) != record.sha256:
                raise _damaged(folder, name, "its content differs")


def _damaged(folder: Path, name: str, fault: str) -> CheckpointError:
    return CheckpointError(f"{name} of {folder} is not what was exported: {fault}.", hint=REPAIR_HINT)


def _fault(folder: Path, name: str, record: FileRecord | None) -> str | None:
    """The fault of a file that can be seen without reading it; ``None`` for a file without one."""
    if not is_inside(name):
        return "it is not in that directory"
    file = folder / name
    if record is None:
        if name in REQUIRED_FILES:
            return "the manifest does not name it"
        return "it was added" if file.is_file() else None
    if not file.is_file():
        return "it is missing"
    size = file.stat().st_size
    return None if size == record.size else f"it has {size} bytes, not {record.size}"


def is_inside(name: str) -> bool:
    """Whether a name with ``/`` cannot lead out of a directory on any system."""
    return all(is_plain_name(part) for part in name.split("/"))


def _with_checksum(text: str, old: str, new: str) -> str:
    return text.replace(f'"checksum": "{old}"', f'"checksum": "{new}"')
