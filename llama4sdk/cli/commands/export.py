"""``llama4sdk export``."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llama4sdk.cli.console import note, print_json, show, stderr
from llama4sdk.cli.options import JsonFlag
from llama4sdk.cli.views.progress_bars import bytes_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from llama4sdk.exporter import Exporter, ExportOptions, ExportReport
    from llama4sdk.progress import Progress

__all__ = ["export"]


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
    from llama4sdk.exporter import ExportOptions
    from llama4sdk.registry import Registry

    exporter = Registry.discover().exporter(to)
    options = ExportOptions(model=model, quantization=quantization, opset=opset, portable=portable, verify=verify)
    report = _exported(exporter, _path(model), out, options)
    if json:
        print_json(report.model_dump(mode="json"))
    else:
        show(_table(report, exporter.name))


def _path(model: str) -> Path:
    from llama4sdk import weights
    from llama4sdk.errors import WeightsNotFoundError

    path = weights.locate(model)
    if path is None:
        raise WeightsNotFoundError(
            f"The weights of '{model}' are not on this machine.",
            hint=f"'llama4sdk pull {model}' fetches them or says how; or give a GGUF file, or a checkpoint directory.",
        )
    return path


def _exported(exporter: Exporter, path: Path, out: Path, options: ExportOptions) -> ExportReport:
    try:
        with _bar(f"Exporting {options.model}") as progress:
            return exporter.export(path, out, options, progress=progress, notice=note)
    except KeyboardInterrupt:
        note("Stopped. The same command resumes where this one left off.")
        raise


@contextmanager
def _bar(what: str) -> Iterator[Progress | None]:
    """Bytes of the checkpoint that are done, on a terminal; elsewhere one line."""
    console = stderr()
    if not console.is_terminal:
        note(f"{what} …")
        yield None
        return
    with bytes_bar(console) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _table(report: ExportReport, engine: str) -> Table:
    from rich.table import Table

    from llama4sdk._text import gb

    if report.verified is not None:
        verified = f"logits differ from the native engine's by {100 * report.verified:.2g}%"
    else:
        verified = f"no: {report.unverified}"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(style="bold", overflow="fold")
    for title, text in (
        ("exported to", report.path + (" (it was there already)" if report.already else "")),
        ("size", f"{gb(report.size)} in {report.files} files"),
        ("quantization", report.quantization),
        ("verified", verified),
        ("next", f"llama4sdk chat --backend {engine} --model {_quoted(report.path)}"),
    ):
        table.add_row(title, text)
    return table


def _quoted(path: str) -> str:
    import shlex

    return shlex.quote(path)
