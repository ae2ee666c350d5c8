"""``llama4sdk export``: finding a plugin's exporter, passing it options, and showing its report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.weights.checkpoints import HF_CONFIG, hf_tensors, write_hf

PLUGIN = '''
"""An exporter that writes one line; NEEDY needs what nobody has."""

from llama4sdk.exporter import Exporter, ExporterInfo, ExportReport
from llama4sdk.hookspecs import hookimpl


@hookimpl
def llama4sdk_exporters():
    cls = "lines_exporter:Lines"
    return [
        ExporterInfo(name="lines", summary="Lines.", cls=cls),
        ExporterInfo(name="needy", summary="Lines.", cls=cls, requires=("no_such_module",), install="pip install it"),
        ExporterInfo(name="broken", summary="Lines.", cls="lines_exporter:Missing"),
    ]


class Lines(Exporter):
    name = "lines"

    def export(self, checkpoint, target, options, *, progress=None, notice=None):
        if options.quantization == "stop":
            raise KeyboardInterrupt
        if notice is not None:
            notice("Beginning.")
        target.mkdir()
        (target / "line.txt").write_text(str(options))
        return ExportReport(
            path=str(target), size=7, files=1, quantization=options.quantization or "any", unverified="it is text"
        )
'''


@pytest.fixture
def lines(install: Any) -> Mapping[str, str]:
    """The environment in which the plugin is installed."""
    environment: Mapping[str, str] = install("lines_exporter", PLUGIN)
    return environment


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint."""
    return write_hf(tmp_path / "tiny", hf_tensors(), HF_CONFIG)


def test_a_plugin_that_brings_only_an_exporter_works(
    program: Any, lines: Mapping[str, str], source: Path, tmp_path: Path
) -> None:
    """The command finds an exporter by name, passes every option, and shows its report and the next command."""
    out = tmp_path / "my out"
    result = program("export", str(source), str(out), "--to", "lines", "-q", "int8", "--opset", "9", env=lines)
    assert result.returncode == 0, result.stderr
    for text in (str(out), "in 1 files", "int8", "no: it is text", f"'{out}'"):
        assert text in result.stdout
    assert "Beginning." in result.stderr
    assert "opset=9" in (out / "line.txt").read_text(encoding="utf-8")


def test_the_report_as_json(program: Any, lines: Mapping[str, str], source: Path, tmp_path: Path) -> None:
    """``--json`` prints the report and nothing else on stdout."""
    result = program("export", str(source), str(tmp_path / "o"), "--to", "lines", "--no-verify", "--json", env=lines)
    report = json.loads(result.stdout)
    assert (report["size"], report["files"], report["verified"]) == (7, 1, None)


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("linse", 2, "There is no exporter 'linse'.\nHint: Did you mean 'lines'?"),
        ("needy", 4, "Exporter 'needy' needs no_such_module, which is not installed.\nHint: pip install it"),
        ("broken", 4, "Exporter 'broken' cannot be imported: AttributeError"),
    ],
)
def test_an_exporter_that_cannot_be_used(
    program: Any, lines: Mapping[str, str], source: Path, tmp_path: Path, name: str, status: int, text: str
) -> None:
    """An unknown exporter, and ones that lack a module or are broken, are errors that say what to do."""
    result = program("export", str(source), str(tmp_path / "o"), "--to", name, env=lines)
    assert result.returncode == status
    assert text in result.stderr
    assert "Traceback" not in result.stderr


def test_a_model_that_is_not_here(program: Any, lines: Mapping[str, str], tmp_path: Path) -> None:
    """A model that is not on this machine is an error whose hint says how to fetch it."""
    result = program("export", "scout", str(tmp_path / "o"), "--to", "lines", env=lines)
    assert result.returncode == 4
    assert "llama4sdk pull scout" in result.stderr


def test_ctrl_c_says_how_to_go_on(program: Any, lines: Mapping[str, str], source: Path, tmp_path: Path) -> None:
    """After Ctrl-C the command says that running it again resumes."""
    result = program("export", str(source), str(tmp_path / "o"), "--to", "lines", "-q", "stop", env=lines)
    assert result.returncode == 130
    assert "The same command resumes" in result.stderr
