"""``llama4sdk inspect``: the contents of a checkpoint, and the reasons why it cannot be loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType

from llama4sdk.weights.inspection import inspect
from tests.weights.checkpoints import TOKENIZER, VISION, hf_tensors, seeing_tensors, write_gguf, write_hf
from tests.weights.meta import write_meta

Cli = Callable[..., Any]


def test_a_whole_checkpoint_is_described(cli: Cli, tmp_path: Path) -> None:
    """A checkpoint is described by its sizes and its parts by precision, with exit code 0."""
    result = cli("inspect", str(write_gguf(tmp_path / "tiny.gguf", kind=GGMLQuantizationType.Q8_0)))
    assert result.exit_code == 0
    for text in (
        "(GGUF)",
        "4 in 2 layers, 1 per token",
        "routed experts  Q8_0",
        "chat template  yes",
        "no vision tower",
    ):
        assert text in result.stdout
    assert "Every tensor is there" in result.stdout


def test_programs_get_every_figure(cli: Cli, tmp_path: Path) -> None:
    """The parts of the JSON document add up to the sizes of the files."""
    folder = write_hf(tmp_path / "tiny", hf_tensors())
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    inspection = json.loads(cli("inspect", str(folder), "--json").stdout)
    expected = sum(values.size for values in hf_tensors().values())
    assert sum(part["parameters"] for part in inspection["parts"]) == inspection["parameters"] == expected
    assert sum(part["nbytes"] for part in inspection["parts"]) == inspection["nbytes"] == 2 * expected
    assert (inspection["format"], inspection["tokenizer"], inspection["problems"]) == ("Hugging Face", 12, [])


def test_what_cannot_be_loaded_is_said_and_why(cli: Cli, tmp_path: Path) -> None:
    """All problems are listed, with exit code 4, and the JSON document is printed as well."""
    folder = write_hf(tmp_path / "bent", hf_tensors() | {"model.norm.weight": np.zeros(31, np.float32)})
    inspection = inspect(folder)
    assert len(inspection.problems) == 2
    assert "'model.norm.weight'" in inspection.problems[0]
    assert "tokenizer.json" in inspection.problems[1]
    result = cli("inspect", str(folder), "--json")
    assert result.exit_code == 4
    assert json.loads(result.stdout)["problems"] == list(inspection.problems)
    assert "cannot be loaded" in result.stderr


def test_an_unreadable_format_is_named(tmp_path: Path) -> None:
    """A tensor in a format that cannot be read is a problem before anything is loaded."""
    wide = {name: values.astype(np.float64) for name, values in hf_tensors().items()}
    assert any("F64" in problem for problem in inspect(write_hf(tmp_path / "wide", wide)).problems)


def test_nothing_to_look_into(cli: Cli, tmp_path: Path) -> None:
    """A path with nothing at it, and a file that is no checkpoint, end with exit code 4."""
    (tmp_path / "notes.txt").write_text("no weights here")
    assert cli("inspect", str(tmp_path / "nothing")).exit_code == 4
    assert cli("inspect", str(tmp_path / "notes.txt")).exit_code == 4


def test_a_directory_of_metas_is_described(cli: Cli, tmp_path: Path) -> None:
    """Meta's directory is described with its vision network, its precisions, and what its files leave open."""
    folder = write_meta(tmp_path / "meta", seeing_tensors(), vision=VISION, fp8=True)
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    result = cli("inspect", str(folder))
    assert result.exit_code == 0
    for text in ("(Meta)", "2 layers, tiles of 12 pixels in 4 tokens", "routed experts  F8_E4M3", "Meta's figure"):
        assert text in result.stdout


def test_a_vision_network_nobody_describes_is_no_vision(tmp_path: Path) -> None:
    """Vision tensors without a configuration are not used, and a note says so."""
    inspection = inspect(write_hf(tmp_path / "tiny", seeing_tensors()))
    assert inspection.vision is None
    assert "It has a vision tower that its configuration does not describe: text only." in inspection.notes


def test_a_directory_of_gguf_files_is_no_checkpoint(cli: Cli, tmp_path: Path) -> None:
    """The hint for a directory of GGUF files names a file in it."""
    write_gguf(tmp_path / "tiny.gguf")
    result = cli("inspect", str(tmp_path))
    assert result.exit_code == 4
    assert "tiny.gguf" in result.stderr
