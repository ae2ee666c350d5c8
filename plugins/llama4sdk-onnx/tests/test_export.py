"""Exporting: every format, interrupted and resumed, refused where it cannot be, and whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from llama4sdk_onnx.export.files import PARTIAL, require_space, write_bytes
from llama4sdk_onnx.export.verify import logit_difference, prompt_ids, verify_export
from llama4sdk_onnx.export_directory import Export
from llama4sdk_onnx.manifest import read_manifest, verify_files

from llama4sdk.errors import CheckpointError, ConfigurationError, ExportError, ModelLoadError
from llama4sdk.llama4.config import TextConfig
from llama4sdk.messages import Message
from llama4sdk.quantization import QuantizationConfig
from llama4sdk.weights.exports import JOURNAL, MANIFEST
from llama4sdk.weights.formats.huggingface import read_json
from llama4sdk.weights.opening import open_checkpoint

from .checkpoints import FORMATS, content, exported, tiny


class StoppedError(Exception):
    """Raised by a progress callback, as Ctrl-C would be."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A checkpoint of each format."""
    return {kind: tiny(kind, tmp_path_factory.mktemp(kind)) for kind in FORMATS}


@pytest.fixture(scope="module")
def whole(sources: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole export of a network that sees."""
    folder = tmp_path_factory.mktemp("export") / "whole"
    exported(sources["seeing"], folder)
    return folder


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("quantization", ["fp32", "int8", "int4"])
def test_every_format_computes_the_same(
    sources: Mapping[str, Path], tmp_path: Path, kind: str, quantization: str
) -> None:
    """The graph agrees with the native engine past a chunk border, and the directory is whole."""
    report = exported(sources[kind], tmp_path / "out", quantization, verify=True)
    assert report.unverified is None
    assert report.verified is not None
    export = Export(tmp_path / "out")
    export.verify()
    assert export.manifest.verified == report.verified
    assert str(export.manifest.quantization) == report.quantization
    assert report.size == sum(len(data) for data in content(tmp_path / "out").values())


@pytest.mark.parametrize("kind", FORMATS)
def test_the_directory_says_what_the_checkpoint_says(sources: Mapping[str, Path], tmp_path: Path, kind: str) -> None:
    """Network, tokenizer, template, stops and sampling are those of the checkpoint, without it."""
    checkpoint = open_checkpoint(sources[kind])
    exported(sources[kind], tmp_path / "out")
    export = Export(tmp_path / "out")
    assert (export.config, export.vision, export.stop_ids) == (
        checkpoint.config,
        checkpoint.vision,
        checkpoint.stop_ids,
    )
    assert TextConfig.from_hf(read_json(tmp_path / "out" / "config.json")) == checkpoint.config
    assert export.generation_defaults == checkpoint.generation_defaults
    assert export.calls_tools == checkpoint.calls_tools
    ours, theirs = export.tokenizer(), checkpoint.tokenizer()
    assert (ours.control, ours.prefix) == (theirs.control, theirs.prefix)
    assert ours.encode("abc <|eot|> cab") == theirs.encode("abc <|eot|> cab")
    template = checkpoint.prompt_format()
    if template is not None:
        again = export.prompt_format()
        assert again is not None
        messages = [Message(role="user", content="abba")]
        assert ours.encode_chat(again, messages) == theirs.encode_chat(template, messages)


def test_an_export_resumes_after_every_piece(sources: Mapping[str, Path], whole: Path, tmp_path: Path) -> None:
    """Interrupted again and again, it goes on where it was, and ends with the very bytes of one that was not."""
    folder = tmp_path / "out"
    stops, said = 0, list[str]()
    while True:
        before = len(list(folder.rglob("*.bin")))

        def stop(done: int, total: int | None, before: int = before) -> None:
            if len(list(folder.rglob("*.bin"))) > before:
                raise StoppedError

        try:
            exported(sources["seeing"], folder, progress=stop, notice=said.append)
            break
        except StoppedError:
            stops += 1
            assert not (folder / MANIFEST).exists()
            with pytest.raises(ModelLoadError):
                Export(folder)
    assert stops >= 3
    assert any("Resuming" in text for text in said)
    assert content(folder) == content(whole)


def test_what_a_killed_process_left_is_replaced(sources: Mapping[str, Path], whole: Path, tmp_path: Path) -> None:
    """A torn journal line, a cut piece and a partial file of a process that died are done again."""
    folder = tmp_path / "out"

    def stop(done: int, of: int | None) -> None:
        if of is not None and done == of:
            raise StoppedError

    with pytest.raises(StoppedError):
        exported(sources["seeing"], folder, progress=stop)
    journal = folder / JOURNAL
    first, second, *_ = sorted((folder / "weights").iterdir())
    second.write_bytes(second.read_bytes()[:-1])
    (folder / "weights" / (first.name + PARTIAL)).write_bytes(b"rest")
    journal.write_bytes(journal.read_bytes()[:-7])
    exported(sources["seeing"], folder)
    assert content(folder) == content(whole)


def test_a_changed_checkpoint_begins_anew(tmp_path: Path) -> None:
    """Weights that were written of other files are not mixed with those of new ones."""
    source = tiny("hf", tmp_path)

    def stop(done: int, of: int | None) -> None:
        if of is not None and done > of // 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        exported(source, tmp_path / "out", progress=stop)
    file = source / "model.safetensors"
    os.utime(file, ns=(1, 1))
    said: list[str] = []
    exported(source, tmp_path / "out", notice=said.append)
    assert any("begins anew" in text for text in said)
    exported(source, tmp_path / "other")
    assert content(tmp_path / "out") == content(tmp_path / "other")


def test_the_same_again_is_already_there(sources: Mapping[str, Path], whole: Path) -> None:
    """A finished export is left as it is; one of other options is refused with another way."""
    before = content(whole)
    assert exported(sources["seeing"], whole).already
    for source, quantization in ((sources["seeing"], "int8"), (sources["hf"], "fp32")):
        with pytest.raises(ConfigurationError, match="holds an export of") as caught:
            exported(source, whole, quantization)
        assert "another directory" in (caught.value.hint or "")
    assert content(whole) == before


@pytest.mark.parametrize("number", range(4))
def test_any_changed_byte_is_refused_by_name(whole: Path, tmp_path: Path, number: int) -> None:
    """Of every file, one changed byte is found, and the file is named; so is one that is cut, missing or added."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    dice = np.random.default_rng(number)
    for name, data in content(folder).items():
        place = int(dice.integers(len(data)))
        changed = bytearray(data)
        changed[place] ^= 1 << int(dice.integers(8))
        (folder / name).write_bytes(changed)
        with pytest.raises(CheckpointError) as caught:
            Export(folder).verify()
        assert name in caught.value.message
        (folder / name).write_bytes(data)
    Export(folder).verify()


def test_a_cut_missing_or_added_file_is_refused_by_name(whole: Path, tmp_path: Path) -> None:
    """Sizes are compared before anything is read, and nothing that prompts are read from can be slipped in."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(whole, folder)
    piece = max((folder / "weights").iterdir())
    data = piece.read_bytes()
    piece.write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match=rf"{piece.name} of .* is not what was exported: it has \d+ bytes"):
        Export(folder).verify()
    piece.unlink()
    with pytest.raises(CheckpointError, match=rf"{piece.name} of .* is not what was exported: it is missing"):
        Export(folder).verify()
    piece.write_bytes(data)
    (folder / "tokenizer.model").write_bytes(b"another")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model of .* it was added"):
        Export(folder).verify()


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "weights/../../x", "C:\\x"])
def test_a_manifest_cannot_name_files_elsewhere(whole: Path, name: str) -> None:
    """A name that leads out of the directory is refused before any file is looked at."""
    manifest = read_manifest(whole)
    record = next(iter(manifest.files.values()))
    with pytest.raises(CheckpointError, match="not in that directory"):
        verify_files(whole, manifest.model_copy(update={"files": {**manifest.files, name: record}}))


def test_options_that_cannot_be_had_are_refused_before_any_work(sources: Mapping[str, Path], tmp_path: Path) -> None:
    """Unknown operator sets and quantizations, and such as cannot be exported, leave nothing behind."""
    for quantization, opset in (("int5", None), ("bf16", None), ("fp8", None), ("int4/bf16", None), ("fp32", 99)):
        with pytest.raises(ConfigurationError) as caught:
            exported(sources["hf"], tmp_path / "out", quantization, opset=opset)
        assert caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_portable_export_computes_the_same(sources: Mapping[str, Path], tmp_path: Path) -> None:
    """Plain operators give the same logits, at another opset and in another kind of graph."""
    report = exported(sources["hf"], tmp_path / "out", "int8", verify=True, portable=True, opset=20)
    assert report.verified is not None
    assert report.opset == 20
    assert read_manifest(tmp_path / "out").kind == "portable"


def test_strangers_files_are_never_touched(sources: Mapping[str, Path], tmp_path: Path) -> None:
    """A directory with other files in it, or a file, is no target."""
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"holds other files, such as notes\.txt"):
        exported(sources["hf"], tmp_path)
    with pytest.raises(ConfigurationError, match="is no directory"):
        exported(sources["hf"], tmp_path / "notes.txt")
    assert content(tmp_path) == {"notes.txt": b"mine"}


def test_an_export_is_no_checkpoint(sources: Mapping[str, Path], whole: Path, tmp_path: Path) -> None:
    """Whoever takes an export for a checkpoint is told what it is, and that it is not damaged."""
    with pytest.raises(ModelLoadError, match="is an export for 'onnx', not a checkpoint") as caught:
        open_checkpoint(whole)
    assert not isinstance(caught.value, CheckpointError)
    with pytest.raises(ModelLoadError):
        exported(whole, tmp_path / "out")


def test_a_full_disk_is_told_and_resumed(sources: Mapping[str, Path], whole: Path, tmp_path: Path) -> None:
    """A limit on file sizes stops the largest piece in the middle: an error, nothing half, and later it goes on."""
    folder = tmp_path / "out"
    largest = max((whole / "weights").iterdir(), key=lambda path: path.stat().st_size).stat().st_size
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest - 1, hard))
    try:
        with pytest.raises(ExportError, match="could not be written") as caught:
            exported(sources["seeing"], folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert "resumes" in (caught.value.hint or "")
    assert not [name for name in content(folder) if name.endswith(PARTIAL)]
    assert not (folder / MANIFEST).exists()
    exported(sources["seeing"], folder)
    assert content(folder) == content(whole)


def test_a_disk_without_room_is_told_first(tmp_path: Path) -> None:
    """A target without room is refused before the first byte; a full device is reported as such."""
    with pytest.raises(ExportError, match=r"free, and .* are needed") as caught:
        require_space(tmp_path, 1 << 60)
    assert caught.value.errno == errno.ENOSPC
    if Path("/dev/full").exists():
        (tmp_path / f"x{PARTIAL}").symlink_to("/dev/full")
        with pytest.raises(ExportError, match="The disk is full") as caught:
            write_bytes(tmp_path / "x", b"data")
        assert caught.value.errno == errno.ENOSPC
        assert not (tmp_path / "x").exists()


def test_a_directory_that_cannot_be_written_is_told(sources: Mapping[str, Path], tmp_path: Path) -> None:
    """A place below a file, or one that may not be written to, is a clear error."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ExportError, match="could not be written"):
        exported(sources["hf"], tmp_path / "file" / "out")


def test_two_at_once_do_not_mix(sources: Mapping[str, Path], whole: Path, tmp_path: Path) -> None:
    """While one process exports, another is refused, and the first ends well."""
    folder = tmp_path / "out"
    refused = []

    def meanwhile(done: int, total: int | None) -> None:
        if not refused:
            refused.append(done)
            with pytest.raises(ExportError, match="Another process is exporting"):
                exported(sources["seeing"], folder)

    exported(sources["seeing"], folder, progress=meanwhile)
    assert refused
    assert content(folder) == content(whole)


def test_what_computes_something_else_is_no_export(sources: Mapping[str, Path], whole: Path, tmp_path: Path) -> None:
    """Logits that differ too much are an error that names the difference."""
    logits = np.random.default_rng(0).normal(size=(8, 100)).astype(np.float32)
    fp32, int8 = QuantizationConfig.of("fp32"), QuantizationConfig.of("int8/fp32")
    assert logit_difference(logits, logits, fp32) == 0
    near = logits + np.float32(0.01)
    assert logit_difference(near, logits, int8) == pytest.approx(0.01, rel=0.1)  # they spread by 1
    for wrong in (near, np.full_like(logits, np.nan)):
        with pytest.raises(ExportError, match="does not compute"):
            logit_difference(wrong, logits, fp32)
    seeing, export = open_checkpoint(sources["seeing"]), Export(whole)
    assert verify_export(whole, export.manifest, seeing).difference is not None
    assert len(prompt_ids(seeing.tokenizer(), seeing.config)) > (seeing.config.chunk_size or 0)
    with pytest.raises(ExportError, match="does not compute"):
        verify_export(whole, export.manifest, open_checkpoint(tiny("other", tmp_path)))


def test_ctrl_c_leaves_what_resumes(tmp_path: Path) -> None:
    """SIGINT in the middle ends the command with 130 and a hint; the same command then finishes."""
    source, out = tiny("hf", tmp_path), tmp_path / "out"
    code = (
        "import os, signal, sys, llama4sdk_onnx.export.exporter as exporter\n"
        "write, left = exporter.write_weight_file, [2]\n"
        "def slow(folder, piece, wrote):\n"
        "    left[0] -= 1\n"
        "    if left[0] == 0: os.kill(os.getpid(), signal.SIGINT)\n"
        "    return write(folder, piece, wrote)\n"
        "exporter.write_weight_file = slow\n"
        "from llama4sdk.cli import main\n"
        "main()\n"
    )
    command = ["export", str(source), str(out), "--to", "onnx", "-q", "fp32", "--no-verify"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert "The same command resumes" in done.stderr
    assert "Traceback" not in done.stderr
    assert (out / JOURNAL).is_file()
    done = subprocess.run(
        [sys.executable, "-m", "llama4sdk", *command, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Resuming" in done.stderr
    assert json.loads(done.stdout)["files"] == len(content(out))
    assert not (out / JOURNAL).exists()
