"""Find weights on this machine.

    home()/models/demo/SmolLM2-135M-Instruct.Q4_1.gguf    fetched by ``pull``
    home()/models/scout/                                  put there by the user, or by ``hf download --local-dir``
    hub_cache()/models--org--name/snapshots/<commit>/     fetched by Hugging Face tools

A file under its final name is complete: downloads carry another name until they are verified.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from llama4sdk import settings

DEMO: Final = "demo"
DEMO_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: In bytes.
DEMO_SIZE: Final = 98_362_432

#: Suffixes of weight files; in the Hugging Face cache they have none.
WEIGHT_SUFFIXES: Final = frozenset({".safetensors", ".gguf", ".pth", ".part", ".incomplete", ""})

#: A directory with less contains only configuration and tokenizer files.
MIN_WEIGHT_BYTES: Final = 1_000_000


def model_dir(name: str) -> Path:
    """The SDK's own directory for a catalogue model, which may not exist."""
    return settings.home() / "models" / name


def locate(model: str) -> Path | None:
    """The local path of a model given by catalogue name, path or Hugging Face repository id; ``None`` without one.

    A catalogue name takes precedence over a path of the same spelling (write ``./demo`` for the path). Reads no file
    but a checkpoint's index, so it takes microseconds.
    """
    if model == DEMO:
        path = model_dir(DEMO) / DEMO_FILE
        return path if is_whole(path, DEMO_SIZE) else None
    if not model or "\0" in model:
        return None
    if checkpoint := _locate_in_catalogue(model):
        return checkpoint
    path = Path(os.path.expanduser(model))  # noqa: PTH111  (Path.expanduser raises for an unknown ~user)
    return path if path.exists() else _locate_in_hub_cache(model)


def incomplete_model(name: str) -> tuple[Path, int] | None:
    """Directory and bytes of a catalogue model that is partly downloaded; ``None`` without one."""
    from llama4sdk.catalog import models

    spec = models.find(name)
    repository = (spec.repository if spec else None) or "none/none"
    for folder in (model_dir(name), _cached_repository(repository)):
        nbytes = sum(size for path, size in files(folder) if path.suffix in WEIGHT_SUFFIXES)
        if nbytes >= MIN_WEIGHT_BYTES:
            return folder, nbytes
    return None


def stored_models() -> list[tuple[Path, int]]:
    """All models in the SDK's directory and in the Hugging Face cache, complete or not, with their bytes."""
    folders = [*sorted((settings.home() / "models").glob("*")), *sorted(settings.hub_cache().glob("models--*"))]
    sizes = ((folder, sum(size for _, size in files(folder))) for folder in folders)
    return [(folder, size) for folder, size in sizes if size]


def files(directory: Path) -> Iterator[tuple[Path, int]]:
    """Real files and their bytes: in the Hugging Face cache, ``snapshots`` contains only links."""
    for folder, _, names in os.walk(directory):
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):  # moved or removed meanwhile
                if not path.is_symlink():
                    yield path, path.stat().st_size


def is_whole(path: Path, size: int) -> bool:
    """Whether the file exists in its full size."""
    return path.is_file() and path.stat().st_size == size


def is_plain_name(name: object) -> bool:
    """Whether a value is a file name that cannot lead out of its directory on any system."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _locate_in_catalogue(model: str) -> Path | None:
    from llama4sdk.catalog import models

    spec = models.find(model)
    if spec is None:
        return None
    if spec is models.DEMO:
        return locate(DEMO)
    return _checkpoint(model_dir(spec.name)) or _locate_in_hub_cache(spec.repository)


def _locate_in_hub_cache(repository: str | None) -> Path | None:
    """The complete checkpoint of the main revision, or else of the newest one."""
    if repository is None or repository.count("/") != 1:
        return None
    return next(filter(None, map(_checkpoint, _snapshots(_cached_repository(repository)))), None)


def _cached_repository(name: str) -> Path:
    return settings.hub_cache() / f"models--{name.replace('/', '--')}"


def _snapshots(repo: Path) -> list[Path]:
    folder = repo / "snapshots"
    if not folder.is_dir():
        return []
    newest = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    main = repo / "refs" / "main"
    commit = main.read_text(encoding="utf-8").strip() if main.is_file() else None
    return sorted(newest, key=lambda path: path.name != commit)


def _checkpoint(folder: Path) -> Path | None:
    """The directory if it has all its shards or Meta's files; or the only GGUF file in it; else ``None``."""
    if (folder / "config.json").is_file() and _shards_present(folder):
        return folder
    if (folder / "params.json").is_file() and any(folder.glob("consolidated.*.pth")):
        return folder
    files = [path for path in folder.glob("*.gguf") if path.is_file()]
    return files[0] if len(files) == 1 else None


def _shards_present(folder: Path) -> bool:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError):
        return False
    return all(is_plain_name(shard) and (folder / shard).is_file() for shard in shards)
