"""Where weights lie on this machine.

    home()/models/demo/SmolLM2-135M-Instruct.Q4_1.gguf    what ``pull`` fetched
    home()/models/scout/                                  what a user put there, or had ``hf download`` put there
    hub_cache()/models--org--name/snapshots/<commit>/     what any Hugging Face tool fetched

A file under its final name is whole: downloads carry another name until they are verified.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from llama4sdk import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["DEMO", "DEMO_FILE", "DEMO_SIZE", "is_plain_name", "is_whole", "kept", "locate", "model_dir", "unfinished"]

DEMO: Final = "demo"
DEMO_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: In bytes.
DEMO_SIZE: Final = 98_362_432

#: How files of weights end; those of the Hugging Face cache are named by their hash alone.
WEIGHTS: Final = frozenset({".safetensors", ".gguf", ".pth", ".part", ".incomplete", ""})

#: Bytes below which nothing but small files has arrived.
BEGUN: Final = 1_000_000


def model_dir(name: str) -> Path:
    """The directory the SDK keeps this catalogue model in; it need not exist."""
    return settings.home() / "models" / name


def locate(model: str) -> Path | None:
    """The local path of a catalogue model, a path, or a Hugging Face repository id; ``None`` when it is not here.

    A catalogue name wins over a path of the same spelling (write ``./demo`` for the path). Looks at names only: no
    file is read but a checkpoint's index, so the answer takes microseconds.
    """
    if model == DEMO:
        path = model_dir(DEMO) / DEMO_FILE
        return path if is_whole(path, DEMO_SIZE) else None
    if not model or "\0" in model:
        return None
    return _catalogued(model) or _given(model) or _in_hub_cache(model)


def unfinished(name: str) -> tuple[Path, int] | None:
    """Where a catalogue model that is not whole has begun to arrive, and how many bytes of it are there."""
    from llama4sdk.catalog import models

    spec = models.find(name)
    repository = (spec.repository if spec else None) or "none/none"
    for place in (model_dir(name), _repository(repository)):
        begun = sum(size for path, size in _files(place) if path.suffix in WEIGHTS)
        if begun >= BEGUN:
            return place, begun
    return None


def kept() -> Iterator[tuple[Path, int]]:
    """The models that are kept here or in the Hugging Face cache, whole or not, with their bytes."""
    for folder, pattern in ((settings.home() / "models", "*"), (settings.hub_cache(), "models--*")):
        for place in sorted(folder.glob(pattern)):
            if size := sum(size for _, size in _files(place)):
                yield place, size


def _files(place: Path) -> Iterator[tuple[Path, int]]:
    """Real files: in the Hugging Face cache the names in ``snapshots`` only point at them."""
    for folder, _, names in os.walk(place):
        for name in names:
            path = place.__class__(folder, name)
            if not path.is_symlink():
                yield path, path.stat().st_size


def is_whole(path: Path, size: int) -> bool:
    """Whether a file of this size is there; one that was cut or damaged later does not count."""
    return path.is_file() and path.stat().st_size == size


def is_plain_name(name: object) -> bool:
    """Whether this names a file right in a directory, and cannot lead out of it on any system."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _catalogued(model: str) -> Path | None:
    from llama4sdk.catalog import models

    spec = models.find(model)
    if spec is None:
        return None
    if spec.name == DEMO:
        return locate(DEMO)
    return _checkpoint(model_dir(spec.name)) or _in_hub_cache(spec.repository)


def _given(model: str) -> Path | None:
    from pathlib import Path

    path = Path(os.path.expanduser(model))  # noqa: PTH111  (Path.expanduser raises for an unknown ~user)
    return path if path.exists() else None


def _in_hub_cache(repository: str | None) -> Path | None:
    """The checkpoint of the main revision, or else of the newest one, that is whole."""
    if repository is None or repository.count("/") != 1:
        return None
    for snapshot in _snapshots(_repository(repository)):
        if found := _checkpoint(snapshot):
            return found
    return None


def _repository(name: str) -> Path:
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
    """The directory when it holds every shard it speaks of, or Meta's own files; or the one GGUF file in it."""
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
