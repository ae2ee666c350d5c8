"""Any bytes of a checkpoint give a result or one of the SDK's errors, in at most twice the file's size of memory."""

from __future__ import annotations

import contextlib
import json
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gguf import GGMLQuantizationType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llama4sdk.errors import Llama4Error
from llama4sdk.weights.opening import open_checkpoint
from tests.weights.checkpoints import TINY, TOKENIZER, VISION, Sizes, hf_tensors, seeing_tensors, write_gguf, write_hf
from tests.weights.meta import write_meta

CASES = settings(
    max_examples=int(os.environ.get("FUZZ_CASES", "40")),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
#: Bytes that Python, jinja2 and numpy take for themselves.
SPARE = 4_000_000


def _look(path: Path) -> None:
    """Do everything that loading a model does with a checkpoint before weights reach an engine."""
    checkpoint = open_checkpoint(path)
    checkpoint.verify()
    for name in checkpoint.tensors:
        checkpoint.read(name)
    assert isinstance(checkpoint.stop_ids, frozenset)
    checkpoint.chat_template()
    checkpoint.tokenizer().encode("a llama")


def _survives(path: Path, size: int) -> None:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with contextlib.suppress(Llama4Error):
        _look(path)
    assert tracemalloc.get_traced_memory()[1] - before < 2 * size + SPARE


@pytest.fixture(autouse=True)
def _trace_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


NUMBERS = st.sampled_from([0, 1, 3, 255, 2**31 - 1, 2**31, 2**32 - 1, 2**48, 2**63 - 1, 2**64 - 1])
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), NUMBERS, st.sampled_from([1, 4, 8])), max_size=6)
ODDITIES: list[Any] = [
    None,
    True,
    -1,
    0,
    1,
    7,
    10**6,
    10**12,
    10**30,
    1e308,
    0.5,
    float("nan"),
    float("inf"),
    "x",
    [],
    {},
]
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(ODDITIES),
    st.text(max_size=8),
    st.lists(st.one_of(st.integers(-2, 10**18), st.text(max_size=3), st.none()), max_size=3),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)
#: Bytes that the pickles of these files take, and their archives' directories at most.
HEADS = {"consolidated.00.pth": 11_000, "fp8_scales_0.pt": 1000}

CHANGES = st.lists(st.tuples(st.integers(0, 10**6), VALUES), min_size=1, max_size=3)


def _edit(content: bytes, edits: list[tuple[float, int, int]], *, head: int, cut: float) -> bytes:
    """The file with numbers written over its first ``head`` bytes, and perhaps truncated."""
    damaged = bytearray(content)
    for where, number, size in edits:
        position = int(where * head)
        damaged[position : position + size] = (number % 2 ** (8 * size)).to_bytes(size, "little")
    return bytes(damaged[: int(cut * len(content))])


def _positions(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON document."""
    pairs = list(document.items() if isinstance(document, dict) else enumerate(document))
    inner = [position for _, value in pairs if isinstance(value, (dict, list)) for position in _positions(value)]
    return [(document, key) for key, _ in pairs] + inner


def _change(source: object, changes: list[tuple[int, Any]]) -> Any:
    document = json.loads(json.dumps(source))
    for number, value in changes:
        positions = _positions(document)
        if positions:
            container, key = positions[number % len(positions)]
            container[key] = value
    return document


BLOCKS_OF_256 = Sizes(hidden=256, heads=2, kv_heads=1, dim=128, dense=256, expert=256, experts=2, layers=2)


@pytest.fixture(scope="module", params=[(GGMLQuantizationType.F32, TINY), (GGMLQuantizationType.Q4_K, BLOCKS_OF_256)])
def gguf_bytes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A complete GGUF file."""
    kind, sizes = request.param
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", sizes, kind=kind).read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face directory in two shards, for tests that restore what they change."""
    folder = write_hf(tmp_path_factory.mktemp("hf") / "tiny", hf_tensors(), shards=2)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    _look(folder)
    return folder


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


@CASES
@given(edits=EDITS, cut=st.sampled_from([1.0, 1.0, 0.99, 0.5, 0.01]))
def test_gguf_headers(gguf_bytes: bytes, tmp_path: Path, edits: list[tuple[float, int, int]], cut: float) -> None:
    """Invalid counts, lengths, types and offsets anywhere in a GGUF header."""
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes(_edit(gguf_bytes, edits, head=6000, cut=cut))
    _survives(path, len(gguf_bytes))


@CASES
@given(edits=EDITS, cut=st.sampled_from([1.0, 1.0, 0.99, 0.5, 0.01]))
def test_safetensors_bytes(folder: Path, edits: list[tuple[float, int, int]], cut: float) -> None:
    """Any damage to the length or the text of a safetensors header."""
    file = folder / "model-00001-of-00002.safetensors"
    content = file.read_bytes()
    try:
        file.write_bytes(_edit(content, edits, head=1500, cut=cut))
        _survives(folder, _size(folder))
    finally:
        file.write_bytes(content)


@CASES
@given(changes=CHANGES)
def test_safetensors_headers(folder: Path, changes: list[tuple[int, Any]]) -> None:
    """A header of valid JSON with invalid entries."""
    file = folder / "model-00001-of-00002.safetensors"
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(_change(json.loads(content[8:end]), changes)).encode()
    try:
        file.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
        _survives(folder, _size(folder))
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "tokenizer.json"])
@CASES
@given(changes=CHANGES)
def test_json_files(folder: Path, name: str, changes: list[tuple[int, Any]]) -> None:
    """JSON values of every type and size in place of the expected ones."""
    file = folder / name
    content = file.read_text(encoding="utf-8")
    try:
        file.write_text(json.dumps(_change(json.loads(content), changes)), encoding="utf-8")
        _survives(folder, _size(folder))
    finally:
        file.write_text(content, encoding="utf-8")


@pytest.mark.parametrize("name", ["consolidated.00.pth", "fp8_scales_0.pt"])
@CASES
@given(edits=EDITS, cut=st.sampled_from([1.0, 1.0, 0.99, 0.5, 0.01]), position=st.sampled_from(["pickle", "directory"]))
def test_torch_files(ranks: Path, name: str, edits: list[tuple[float, int, int]], cut: float, position: str) -> None:
    """Any damage to the pickle of a torch file, or to the archive's directory."""
    file = ranks / name
    content = file.read_bytes()
    ends = HEADS[name]
    damaged = _edit(content[:ends], edits, head=ends, cut=1.0) + content[ends:]
    if position == "directory":
        damaged = content[:-ends] + _edit(content[-ends:], edits, head=ends, cut=cut)
    try:
        file.write_bytes(damaged)
        _survives(ranks, _size(ranks))
    finally:
        file.write_bytes(content)


@CASES
@given(changes=CHANGES)
def test_params(ranks: Path, changes: list[tuple[int, Any]]) -> None:
    """JSON values of every type and size in ``params.json``."""
    file = ranks / "params.json"
    content = file.read_text(encoding="utf-8")
    try:
        file.write_text(json.dumps(_change(json.loads(content), changes)), encoding="utf-8")
        _survives(ranks, _size(ranks))
    finally:
        file.write_text(content, encoding="utf-8")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in Meta's form, for a test that restores what it changes."""
    folder = write_meta(tmp_path_factory.mktemp("meta") / "tiny", seeing_tensors(), vision=VISION, fp8=True)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    _look(folder)
    return folder
