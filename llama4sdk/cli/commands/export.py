"""``llama4sdk export``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llama4sdk._text import gb
from llama4sdk.cli.console import note, note_if_interrupted, print_json, show
from llama4sdk.cli.options import JsonFlag
from llama4sdk.cli.views.progress_bars import bytes_bar
from llama4sdk.cli.views.responsive_table import ResponsiveTable, key_value_table

if TYPE_CHECKING:
    from llama4sdk.exporter import ExportReport

INTERRUPTED: Final = "Stopped. The same command resumes where this one left off."


def export(
    model: Annotated[str, typer.Argument(help="A GGUF file, a checkpoint directory, or a model's name.")],
    out: Annotated[Path, typer.Argument(help="The directory to write: a new one, or one that was begun.")],
    *,
    to: Annotated[str, typer.Option("--to", help="What to export to, such as onnx.")],
    quantization: Annotated[
        str | None,
        typer.Option("--quantization", "--quant", "-q", help="fp32, fp16, int8, int4, int4-g32, int4/fp16, …"),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="The version of ONNX' operators.")] = None,
    portable: Annotated[bool, typer.Option("--portable", help="Use no operators but the standard's.")] = False,
    verify: Annotated[bool, typer.Option(help="Compare what was written with the native engine at the end.")] = True,
    json: JsonFlag = False,
) -> None:
    """Write a checkpoint as a directory that another engine runs: resumable, verified, with everything it needs."""
    from llama4sdk.cli.model_argument import find_checkpoint
    from llama4sdk.exporter import ExportOptions
    from llama4sdk.registry import Registry

    exporter = Registry.discover().exporter(to)
    options = ExportOptions(model=model, quantization=quantization, opset=opset, portable=portable, verify=verify)
    path, title = find_checkpoint(model), f"Exporting {model}"
    with note_if_interrupted(INTERRUPTED), bytes_bar(title, f"{title} …") as progress:
        report = exporter.export(path, out, options, progress=progress, notice=note)
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        show(_table(report, exporter.name))


def _table(report: ExportReport, engine: str) -> ResponsiveTable:
    verified = f"no: {report.unverified}"
    if report.verified is not None:
        verified = f"logits differ from the native engine's by {100 * report.verified:.2g}%"
    return key_value_table(
        [
            ("exported to", report.path + (" (it was there already)" if report.already else "")),
            ("size", f"{gb(report.size)} in {report.files} files"),
            ("quantization", report.quantization),
            ("verified", verified),
            ("next", f"llama4sdk chat --backend {engine} --model {shlex.quote(report.path)}"),
        ]
    )
