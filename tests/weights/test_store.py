"""Weights are found where the SDK, the user or a Hugging Face tool put them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llama4sdk.weights import locate, store

SCOUT = "meta-llama/Llama-4-Scout-17B-16E-Instruct"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home, hub cache and working directory."""
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path / "work")


def checkpoint(folder: Path, *, shards: int = 0, missing: int = 0) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    if not shards:
        (folder / "model.safetensors").write_bytes(b"")
        return folder
    names = [f"model-{i}.safetensors" for i in range(shards)]
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(enumerate(names))}))
    for name in names[missing:]:
        (folder / name).write_bytes(b"")
    return folder


def snapshot(hub: Path, commit: str, repository: str = SCOUT) -> Path:
    return hub / f"models--{repository.replace('/', '--')}" / "snapshots" / commit


@pytest.mark.parametrize("name", ["demo", "scout", SCOUT, "nobody/nothing", "no such thing", "", "~nobody/x", "a\0b"])
def test_nothing_is_here(name: str) -> None:
    """A model that is not stored is None, however odd the name."""
    assert locate(name) is None


@pytest.mark.parametrize("name", ["demo", "smollm2", "SmolLM2-135M-Instruct"])
def test_the_demo_model_by_any_name(tmp_path: Path, name: str) -> None:
    """The demo model is its complete GGUF file under the home directory."""
    folder = tmp_path / "home" / "models" / "demo"
    folder.mkdir(parents=True)
    file = folder / "SmolLM2-135M-Instruct.Q4_1.gguf"
    file.with_name(file.name + ".part").write_bytes(b"half")
    assert locate(name) is None
    file.write_bytes(b"cut")
    assert locate(name) is None
    with file.open("r+b") as sparse:
        sparse.truncate(store.DEMO_SIZE)
    assert locate(name) == file


def test_a_path_is_itself(tmp_path: Path) -> None:
    """An existing path is returned as it is; a catalogue name takes precedence unless written as a path."""
    file = tmp_path / "work" / "demo"
    file.write_bytes(b"")
    assert locate(str(file)) == file
    assert locate("./demo") == Path("demo")
    assert locate("demo") is None


def test_a_directory_in_home(tmp_path: Path) -> None:
    """A checkpoint that the user put under home()/models/<name> is found by the catalogue name."""
    folder = checkpoint(tmp_path / "home" / "models" / "scout", shards=2)
    assert locate("scout") == folder
    assert locate("llama-4-scout") == folder


def test_the_hub_cache_by_name_and_repository(tmp_path: Path) -> None:
    """Checkpoints in Hugging Face's cache are located by catalogue name and by repository id."""
    folder = checkpoint(snapshot(tmp_path / "hub", "abc"), shards=3)
    assert locate("scout") == folder
    assert locate(SCOUT) == folder


def test_a_missing_shard_is_not_here(tmp_path: Path) -> None:
    """A snapshot without a file of its index is not complete."""
    checkpoint(snapshot(tmp_path / "hub", "abc"), shards=3, missing=1)
    assert locate("scout") is None


def test_the_main_revision_wins(tmp_path: Path) -> None:
    """Of several complete snapshots, that of refs/main is taken."""
    main = checkpoint(snapshot(tmp_path / "hub", "aaa"))
    checkpoint(snapshot(tmp_path / "hub", "bbb"))
    refs = main.parent.parent / "refs"
    refs.mkdir()
    (refs / "main").write_text("aaa")
    assert locate("scout") == main


def test_a_repository_of_one_gguf(tmp_path: Path) -> None:
    """A repository that holds a single GGUF is that file."""
    folder = snapshot(tmp_path / "hub", "abc", "someone/Model-GGUF")
    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"")
    assert locate("someone/Model-GGUF") == folder / "model.gguf"
